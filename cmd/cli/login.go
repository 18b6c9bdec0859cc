package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/davit-run/davit/engine/registry"
)

type loginOptions struct {
	user, password string
	stdin          bool
}

func newLogin(g *globals) *cobra.Command {
	var o loginOptions
	c := &cobra.Command{
		Use:   "login [OPTIONS] [SERVER]",
		Short: "Log in to a registry (Docker Hub when none is named)",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return runLogin(c.Context(), g, o, strings.Join(args, ""))
		},
	}
	f := c.Flags()
	f.StringVarP(&o.user, "username", "u", "", "Username")
	f.StringVarP(&o.password, "password", "p", "", "Password (better: --password-stdin)")
	f.BoolVar(&o.stdin, "password-stdin", false, "Take the password from standard input")
	return c
}

// runLogin tries the credentials and keeps them where Docker's tools look.
func runLogin(ctx context.Context, g *globals, o loginOptions, server string) error {
	s, err := g.open()
	if err != nil {
		return err
	}
	defer s.close()
	if o.password != "" {
		s.say("davit: warning: a password on the command line is seen by every user of this host; use --password-stdin")
	}
	if err := o.complete(g); err != nil {
		return err
	}
	where, err := s.engine.Login(ctx, registry.Login{Host: server, User: o.user, Password: o.password})
	if err != nil {
		return err
	}
	s.say("The credentials are kept in %s", where)
	_, err = fmt.Fprintln(g.out, "Login Succeeded")
	return err
}

// complete asks for what the flags leave out.
func (o *loginOptions) complete(g *globals) error {
	if o.stdin {
		if o.user == "" {
			return errors.New("--password-stdin needs --username")
		}
		b, err := io.ReadAll(io.LimitReader(g.in, 64<<10))
		o.password = strings.TrimRight(string(b), "\r\n")
		return err
	}
	if (o.user == "" || o.password == "") && !isTerminal(g.in) {
		return errors.New("there is no terminal to ask at: use --username and --password-stdin")
	}
	if o.user == "" {
		fmt.Fprint(g.err, "Username: ")
		o.user = strings.TrimSpace(readLine(g.in))
	}
	if o.password == "" {
		fmt.Fprint(g.err, "Password: ")
		b, err := term.ReadPassword(int(g.in.Fd()))
		fmt.Fprintln(g.err)
		if err != nil {
			return fmt.Errorf("read password: %w", err)
		}
		o.password = string(b)
	}
	return nil
}

func newLogout(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "logout [SERVER]",
		Short: "Log out from a registry (Docker Hub when none is named)",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := g.open()
			if err != nil {
				return err
			}
			defer s.close()
			server := strings.Join(args, "")
			had, err := s.engine.Logout(c.Context(), server)
			if err != nil {
				return err
			}
			if server == "" {
				server = "docker.io"
			}
			if !had {
				_, err = fmt.Fprintln(g.out, "Not logged in to", server)
				return err
			}
			_, err = fmt.Fprintln(g.out, "Removed login credentials for", server)
			return err
		},
	}
}
