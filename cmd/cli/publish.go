package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/davit-run/davit/cmd/render"
	"github.com/davit-run/davit/engine/local"
	"github.com/davit-run/davit/engine/registry"
	"github.com/davit-run/davit/project/artifact"
	"github.com/davit-run/davit/project/compose"
)

type publishOptions struct {
	app, insecure, digests, withEnv, yes bool
	version                              string
}

func newPublish(g *globals) *cobra.Command {
	var o publishOptions
	c := &cobra.Command{
		Use:   "publish [OPTIONS] REPOSITORY[:TAG]",
		Short: "Publish compose application",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return runPublish(c.Context(), g, o, args[0])
		},
	}
	f := c.Flags()
	f.BoolVar(&o.app, "app", false, "Published compose application (includes referenced images)")
	f.BoolVar(&o.insecure, "insecure-registry", false, "Use insecure registry")
	f.StringVar(&o.version, "oci-version", "", "OCI image/artifact specification version (automatically determined by default)")
	f.BoolVar(&o.digests, "resolve-image-digests", false, "Pin image tags to digests")
	f.BoolVar(&o.withEnv, "with-env", false, "Include environment variables in the published OCI artifact")
	f.BoolVarP(&o.yes, "yes", "y", false, `Assume "yes" as answer to all prompts`)
	_ = f.MarkHidden("insecure-registry")
	return c
}

// runPublish sends the project's files to a registry, after the images that
// its services build, once a person agrees to what they give away.
func runPublish(ctx context.Context, g *globals, o publishOptions, to string) error {
	switch o.version {
	case "", "1.0", "1.1":
	default:
		return fmt.Errorf("--oci-version %q: use one of 1.0, 1.1", o.version)
	}
	to = strings.TrimPrefix(to, "oci://")
	p, warnings, err := compose.Publish(ctx, g.composeOptions(nil), compose.PublishOptions{WithEnv: o.withEnv, Version: ComposeVersion})
	g.warn(warnings)
	if err != nil {
		return err
	}
	s, err := g.open()
	if err != nil {
		return err
	}
	defer s.close()
	if agreed, err := s.mayPublish(ctx, o, p); err != nil || !agreed {
		if err == nil {
			err = exit{code: interrupted}
		}
		return err
	}
	if s.dryRun {
		_, err := fmt.Fprintf(s.out, "publish %d files as %s\n", len(p.Parts), to)
		return err
	}
	return s.publish(ctx, o, p, to)
}

// mayPublish asks about what the files tell of this host.
func (s *session) mayPublish(ctx context.Context, o publishOptions, p *compose.Publication) (bool, error) {
	for _, q := range []struct {
		found []string
		text  string
	}{
		{p.Binds, "you are about to publish bind mounts declaration within your OCI artifact.\n" +
			"only the bind mount declarations will be added to the OCI artifact (not content)\n" +
			"please double check that you are not mounting potential user's sensitive directories or data\n%s\n" +
			"Are you ok to publish these bind mount declarations?"},
		{p.Sensitive, "you are about to publish sensitive data within your OCI artifact.\n" +
			"please double check that you are not leaking sensitive data\n%s\n" +
			"Are you ok to publish these sensitive data?"},
	} {
		if len(q.found) == 0 || o.yes {
			continue
		}
		if agreed, err := s.ask(ctx, fmt.Sprintf(q.text, strings.Join(q.found, "\n"))); err != nil || !agreed {
			return false, err
		}
	}
	return true, nil
}

// publish pushes what is built, then the files, then what --app adds.
func (s *session) publish(ctx context.Context, o publishOptions, p *compose.Publication, to string) error {
	show, err := s.progressFor("publish")
	if err != nil {
		return err
	}
	defer show.Close()
	if o.insecure {
		s.insecure = append(s.insecure, registry.Host(to))
	}
	for _, ref := range p.Built {
		if err := s.push(ctx, show, ref); err != nil && ctx.Err() != nil {
			return err
		} // another failure is told, and stops the files as little as docker compose's does
	}
	if o.digests || o.app {
		if err := p.Pin(ctx, s.digest); err != nil {
			return err
		}
	}
	report := func(word string, done bool, err error) {
		e := event(to, word, done, err)
		e.Kind = "Artifact"
		show.Report(e)
	}
	report("Publishing", false, nil)
	digest, err := s.sendFiles(ctx, o, p, to)
	if err != nil {
		report("Error", true, err)
		return err
	}
	report("Published", true, nil)
	if s.progress != render.Quiet {
		fmt.Fprintf(s.out, "%s: digest: %s\n", to, digest)
	}
	return nil
}

func (s *session) sendFiles(ctx context.Context, o publishOptions, p *compose.Publication, to string) (string, error) {
	c, err := s.engine.Registry(local.RegistryOptions{Insecure: s.insecure})
	if err != nil {
		return "", err
	}
	defer c.Close()
	a := registry.Artifact{Type: artifact.Type}
	for _, part := range p.Parts {
		a.Parts = append(a.Parts, registry.Part(part))
	}
	digest, err := c.PushArtifact(ctx, to, a, artifact.ConfigType, o.version)
	if err != nil || !o.app {
		return digest, err
	}
	_, err = c.PushApplication(ctx, to, digest, p.Images)
	return digest, err
}
