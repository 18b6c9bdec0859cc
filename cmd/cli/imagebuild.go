package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/davit-run/davit/cmd/render"
	"github.com/davit-run/davit/engine/build"
	"github.com/davit-run/davit/engine/local"
)

// imageBuildOptions are the flags of image build, which are docker build's.
type imageBuildOptions struct {
	tags, args, labels, contexts, secrets, ssh, allow, hosts, noCacheFilter []string
	cacheFrom, cacheTo                                                      []string
	file, target, platform, network, progress, iidFile, call, shm           string
	noCache, pull, quiet, check                                             bool
}

func newImageBuild(g *globals) *cobra.Command {
	var o imageBuildOptions
	c := &cobra.Command{
		Use:   "build [OPTIONS] CONTEXT|URL|-",
		Short: "Build an image from a Dockerfile",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return runImageBuild(c.Context(), g, o, args[0])
		},
	}
	f := c.Flags()
	f.StringArrayVarP(&o.tags, "tag", "t", nil, "Image identifier (format: [registry/]repository[:tag])")
	f.StringVarP(&o.file, "file", "f", "", "Name of the Dockerfile (default: PATH/Dockerfile)")
	f.StringVar(&o.target, "target", "", "Set the target build stage to build")
	f.StringArrayVar(&o.args, "build-arg", nil, "Set build-time variables")
	f.StringArrayVar(&o.labels, "label", nil, "Set metadata for an image")
	f.StringArrayVar(&o.contexts, "build-context", nil, "Additional build contexts (e.g., name=path)")
	f.StringArrayVar(&o.secrets, "secret", nil, `Secret to expose to the build (format: "id=mysecret[,src=/local/secret|,env=NAME]")`)
	f.StringArrayVar(&o.ssh, "ssh", nil, `SSH agent socket or keys to expose to the build (format: "default|<id>[=<socket>|<key>]")`)
	f.StringArrayVar(&o.cacheFrom, "cache-from", nil, `External cache sources (e.g., "user/app:cache", "type=local,src=path/to/dir")`)
	f.StringArrayVar(&o.cacheTo, "cache-to", nil, `Cache export destinations (e.g., "type=registry,ref=user/app:cache", "type=local,dest=path/to/dir", "type=inline")`)
	f.StringArrayVar(&o.allow, "allow", nil, `Allow extra privileged entitlement (e.g., "network.host", "security.insecure")`)
	f.StringArrayVar(&o.hosts, "add-host", nil, `Add a custom host-to-IP mapping (format: "host:ip")`)
	f.StringVar(&o.network, "network", "", `Set the networking mode for the "RUN" instructions during build`)
	f.StringVar(&o.platform, "platform", "", "Set target platform for build")
	f.StringVar(&o.shm, "shm-size", "", `Shared memory size for build containers`)
	f.StringVar(&o.progress, "progress", "auto", "Set type of progress output (auto, tty, plain, json, quiet)")
	f.StringVar(&o.iidFile, "iidfile", "", "Write the image ID to a file")
	f.StringVar(&o.call, "call", "build", `Set method for evaluating build ("check", "outline", "targets")`)
	f.BoolVar(&o.check, "check", false, `Shorthand for "--call=check"`)
	f.BoolVar(&o.noCache, "no-cache", false, "Do not use cache when building the image")
	f.StringArrayVar(&o.noCacheFilter, "no-cache-filter", nil, "Do not cache specified stages")
	f.BoolVar(&o.pull, "pull", false, "Always attempt to pull all referenced images")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Suppress the build output and print image ID on success")
	return c
}

// runImageBuild builds one image of no project.
func runImageBuild(ctx context.Context, g *globals, o imageBuildOptions, where string) error {
	s, err := g.open()
	if err != nil {
		return err
	}
	defer s.close()
	r, err := o.request()
	if err != nil {
		return err
	}
	done, err := s.buildContext(ctx, where, &r)
	if err != nil {
		return err
	}
	defer done()
	if o.check {
		o.call = "check"
	}
	if o.call != "build" && o.call != "" {
		return s.askDockerfile(ctx, r, o.call)
	}
	if o.quiet {
		o.progress = render.Quiet
	}
	d, err := build.NewDisplay(g.err, o.progress)
	if err != nil {
		return err
	}
	img, err := s.engine.Build(ctx, r, o.tags, local.RegistryOptions{Insecure: s.insecure}, d.Report)
	d.Close()
	if err != nil {
		return d.Explain(err)
	}
	if o.iidFile != "" {
		if err := os.WriteFile(o.iidFile, []byte(img.ID), 0o666); err != nil {
			return err
		}
	}
	if o.quiet || len(o.tags) == 0 {
		_, err = fmt.Fprintln(g.out, img.ID)
		return err
	}
	for _, name := range img.Names {
		s.say(" Image %s Built", familiar(name))
	}
	return nil
}

// buildContext reads a context on standard input, or takes the directory or
// URL as it is.
func (s *session) buildContext(ctx context.Context, where string, r *build.Request) (done func(), err error) {
	done = func() {}
	if r.Dockerfile == "-" {
		if where == "-" {
			return done, errors.New("the Dockerfile and the context cannot both come from standard input")
		}
		if r.Inline, err = build.ReadDockerfile(s.in); err != nil {
			return done, err
		}
	}
	if where == "-" {
		return build.ReadContext(ctx, s.engine.ImageStore().Layers(), s.in, r)
	}
	r.Context = where
	if build.Remote(where) {
		return done, nil
	}
	if r.Context, err = filepath.Abs(where); err != nil {
		return done, err
	}
	if r.Dockerfile != "" && r.Dockerfile != "-" { // as docker has it: below where one is
		r.Dockerfile, err = filepath.Abs(r.Dockerfile)
	}
	return done, err
}

// askDockerfile prints what a Dockerfile answers.
func (s *session) askDockerfile(ctx context.Context, r build.Request, call string) error {
	name, format, _ := strings.Cut(call, ",format=")
	method, ok := map[string]string{
		"check": build.CallCheck, "lint": build.CallCheck, "outline": build.CallOutline, "targets": build.CallTargets,
	}[name]
	if !ok {
		return fmt.Errorf("--call %q: use one of build, check, outline, targets", name)
	}
	text, object, clean, err := s.engine.AskDockerfile(ctx, r, method, local.RegistryOptions{Insecure: s.insecure})
	if err != nil {
		return new(build.Display).Explain(err)
	}
	if format == "json" {
		text = append(object, '\n')
	}
	if _, err := s.out.Write(text); err != nil {
		return err
	}
	if !clean {
		return errors.New("the check found mistakes")
	}
	return nil
}

// request turns the flags into what the builder takes.
func (o imageBuildOptions) request() (build.Request, error) {
	r := build.Request{
		Dockerfile: o.file, Target: o.target, Platform: o.platform, Network: o.network, NoCache: o.noCache, Pull: o.pull,
		NoCacheFor: o.noCacheFilter, ExtraHosts: o.hosts, Contexts: map[string]string{}, Args: map[string]string{},
		Labels: map[string]string{}, Secrets: map[string]build.SecretSource{}, SSH: map[string]string{},
	}
	if strings.Contains(o.platform, ",") {
		return r, fmt.Errorf("--platform %q: an image here holds one platform; build them one by one", o.platform)
	}
	proxyArgs(r.Args)
	for _, a := range o.args {
		addArg(r.Args, a, nil)
	}
	for _, l := range o.labels {
		k, v, _ := strings.Cut(l, "=")
		r.Labels[k] = v
	}
	for _, c := range o.contexts {
		k, v, ok := strings.Cut(c, "=")
		if !ok {
			return r, fmt.Errorf("--build-context %q: write NAME=PATH", c)
		}
		r.Contexts[k] = v
	}
	for _, a := range o.allow {
		switch a {
		case "network.host":
			r.HostNet = true
		case "security.insecure":
			r.Insecure = true
		default:
			return r, fmt.Errorf("--allow %q: use one of network.host, security.insecure", a)
		}
	}
	for _, x := range o.ssh {
		id, path, _ := strings.Cut(x, "=")
		r.SSH[id] = agent(path)
	}
	if o.shm != "" {
		n, err := units.RAMInBytes(o.shm)
		if err != nil {
			return r, fmt.Errorf("--shm-size: %w", err)
		}
		r.ShmSize = n
	}
	return r, errors.Join(o.secretSources(r.Secrets), parseCaches("--cache-from", o.cacheFrom, &r.CacheFrom), parseCaches("--cache-to", o.cacheTo, &r.CacheTo))
}

func parseCaches(flag string, list []string, into *[]build.Cache) error {
	for _, text := range list {
		c, err := build.ParseCache(text, "")
		if err != nil {
			return fmt.Errorf("%s %w", flag, err)
		}
		*into = append(*into, c)
	}
	return nil
}

func (o imageBuildOptions) secretSources(into map[string]build.SecretSource) error {
	for _, x := range o.secrets {
		var id string
		var s build.SecretSource
		for _, part := range strings.Split(x, ",") {
			k, v, _ := strings.Cut(part, "=")
			switch k {
			case "id":
				id = v
			case "src", "source":
				s.File = v
			case "env":
				s.Env = v
			case "type":
			default:
				return fmt.Errorf("--secret %q: unknown key %q", x, k)
			}
		}
		if id == "" {
			return fmt.Errorf("--secret %q: there is no id", x)
		}
		if s.File == "" && s.Env == "" {
			if _, ok := os.LookupEnv(id); ok {
				s.Env = id
			} else {
				s.File = id
			}
		}
		into[id] = s
	}
	return nil
}
