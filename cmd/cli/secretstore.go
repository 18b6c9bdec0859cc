package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/davit-run/davit/cmd/render"
	"github.com/davit-run/davit/engine/local"
)

// newSecret is the local store behind external secrets and, with --config,
// behind external configs.
func newSecret(g *globals) *cobra.Command {
	c := &cobra.Command{
		Use:   "secret COMMAND",
		Short: "Manage the secrets that compose files call external",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	kind := local.Secret
	c.PersistentFlags().BoolFunc("config", "Work on external configs instead of secrets", func(v string) error {
		if v != "false" {
			kind = local.Config
		}
		return nil
	})
	c.AddCommand(newSecretCreate(g, &kind), newSecretInspect(g, &kind), newSecretLs(g, &kind), newSecretRm(g, &kind))
	return c
}

func newSecretCreate(g *globals, kind *local.FileKind) *cobra.Command {
	var replace bool
	c := &cobra.Command{
		Use: "create [OPTIONS] NAME FILE|-", Short: "Create a secret from a file or standard input", Args: cobra.RangeArgs(1, 2),
		RunE: func(_ *cobra.Command, args []string) error {
			return runSecretCreate(g, *kind, args[0], strings.Join(args[1:], ""), replace)
		},
	}
	c.Flags().BoolVar(&replace, "replace", false, "Replace the secret of that name; containers see it when they are started again")
	return c
}

// runSecretCreate takes a secret in. Its content goes nowhere but to the store.
func runSecretCreate(g *globals, kind local.FileKind, name, file string, replace bool) error {
	s, err := g.open()
	if err != nil {
		return err
	}
	defer s.close()
	in, err := g.content(file)
	if err != nil {
		return err
	}
	defer in.Close()
	content, err := io.ReadAll(io.LimitReader(in, local.MaxFile+1))
	if err != nil {
		return fmt.Errorf("read %s %s: %w", kind, name, err)
	}
	if err := s.engine.Kept().Put(kind, name, content, replace); err != nil {
		return err
	}
	_, err = fmt.Fprintln(g.out, name)
	return err
}

// content opens the named file, or standard input when nothing, or -, is named.
func (g *globals) content(file string) (*os.File, error) {
	if file != "" && file != "-" {
		return os.Open(file)
	}
	if isTerminal(g.in) {
		return nil, errors.New("there is nothing on standard input: name a file, or redirect it")
	}
	return os.NewFile(g.in.Fd(), "standard input"), nil
}

func newSecretLs(g *globals, kind *local.FileKind) *cobra.Command {
	var format string
	var quiet bool
	c := &cobra.Command{
		Use: "ls [OPTIONS]", Aliases: []string{"list"}, Short: "List secrets", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return runSecretLs(g, *kind, format, quiet) },
	}
	c.Flags().StringVar(&format, "format", "table", formatHelp)
	c.Flags().BoolVarP(&quiet, "quiet", "q", false, "Only display names")
	return c
}

// runSecretLs lists names and ages, never contents.
func runSecretLs(g *globals, kind local.FileKind, format string, quiet bool) error {
	s, err := g.open()
	if err != nil {
		return err
	}
	defer s.close()
	all, err := s.engine.Kept().List(kind)
	if err != nil {
		return err
	}
	t := render.Table{Columns: []render.Column{{Head: "NAME", Key: "Name"}, {Head: "CREATED", Key: "CreatedAt"}}}
	for _, f := range all {
		if quiet {
			fmt.Fprintln(g.out, f.Name)
			continue
		}
		t.Rows = append(t.Rows, map[string]any{
			"Name": f.Name, "ID": f.Name, "CreatedAt": units.HumanDuration(max(0, time.Since(f.Changed))) + " ago",
			"UpdatedAt": units.HumanDuration(max(0, time.Since(f.Changed))) + " ago", "Labels": "", "Driver": "",
		})
	}
	if quiet {
		return nil
	}
	return t.Print(g.out, format)
}

// A fileJSON is a secret as `docker secret inspect` shows it: without content.
type fileJSON struct {
	ID        string
	CreatedAt time.Time
	UpdatedAt time.Time
	Spec      struct {
		Name   string
		Labels map[string]string
	}
}

func newSecretInspect(g *globals, kind *local.FileKind) *cobra.Command {
	var format string
	c := &cobra.Command{
		Use: "inspect [OPTIONS] NAME [NAME...]", Short: "Display information on secrets, never their contents", Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return g.inspectEach(format, args, func(s *session, name string) (any, error) {
				f, err := s.engine.Kept().Get(*kind, name)
				v := fileJSON{ID: f.Name, CreatedAt: f.Changed, UpdatedAt: f.Changed}
				v.Spec.Name, v.Spec.Labels = f.Name, map[string]string{}
				return v, err
			})
		},
	}
	c.Flags().StringVarP(&format, "format", "f", "", "Format output using a Go template, or 'json'")
	return c
}

func newSecretRm(g *globals, kind *local.FileKind) *cobra.Command {
	return &cobra.Command{
		Use: "rm NAME [NAME...]", Aliases: []string{"remove"}, Short: "Remove secrets that no container has", Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return g.removeEach(args, func(s *session, name string) error {
				return s.engine.Kept().Remove(*kind, name)
			})
		},
	}
}

// external refuses a container whose external secrets or configs nobody has
// put in the store.
func (h *host) external(key, kind, name string) error {
	if !strings.HasPrefix(key, "external.") {
		return nil
	}
	if _, err := os.Lstat(filepath.Join(h.Layout().Secrets(), key)); err == nil {
		return nil
	}
	stored := strings.TrimPrefix(key, "external."+kind+".")
	flag := ""
	if kind == "config" {
		flag = "--config "
	}
	err := h.session.project.Wrong(kind+"s."+name, fmt.Sprintf("make it with: davit secret %screate %s FILE", flag, stored),
		"%s %s declared as external, but could not be found", kind, stored)
	return err
}
