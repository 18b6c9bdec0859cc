package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/davit-run/davit/project"
	"github.com/davit-run/davit/reconcile/apply"
)

// A providerMessage is one line of JSON that a provider says on its output:
// info, error, debug, or setenv with KEY=value for those that depend on it;
// rawsetenv is the same without the service's name before the key.
type providerMessage struct {
	Type    string `json:"type"`
	Message string `json:"message"`
}

// providerMessages are the types that are understood, as a provider is told in
// COMPOSE_PROVIDER_MESSAGES (docs/extension.md of docker compose).
const providerMessages = "error,info,setenv,rawsetenv,debug"

// provide has the providers of the services do their part of up, dependencies
// first, and hands the variables they set to the services that depend on them.
func (s *session) provide(ctx context.Context, services []string, noDeps bool) error {
	names := s.providers(services, noDeps)
	if len(names) == 0 || s.dryRun {
		return nil
	}
	show, err := s.progressFor("up")
	if err != nil {
		return err
	}
	defer show.Close()
	for _, name := range names {
		show.Report(apply.Event{Kind: "Service", Name: name, Word: "Providing"})
		set, err := s.callProvider(ctx, s.project.Services[name], "up", anyOption)
		if err != nil {
			show.Report(apply.Event{Kind: "Service", Name: name, Word: "Error", Done: true, Err: err})
			return err
		}
		show.Report(apply.Event{Kind: "Service", Name: name, Word: "Provided", Done: true})
		s.inject(name, set)
	}
	return nil
}

// providers are the services among those asked for, and among what these need,
// that an outside program provides.
func (s *session) providers(services []string, noDeps bool) []string {
	if s.project == nil {
		return nil
	}
	wanted := map[string]bool{}
	var visit func(name string)
	visit = func(name string) {
		svc := s.project.Services[name]
		if svc == nil || wanted[name] {
			return
		}
		wanted[name] = true
		if !noDeps {
			for dep := range svc.DependsOn {
				visit(dep)
			}
		}
	}
	if len(services) == 0 {
		services = s.project.ServiceNames()
	}
	for _, name := range services {
		visit(name)
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		if s.project.Services[name].Provider != nil {
			out = append(out, name)
		}
	}
	return out
}

// inject gives a provider's variables to the services that depend on it.
func (s *session) inject(provider string, set map[string]string) {
	for i := range s.desired.Containers {
		c := &s.desired.Containers[i]
		svc := s.project.Services[c.Service]
		if svc == nil {
			continue
		}
		if _, depends := svc.DependsOn[provider]; !depends {
			continue
		}
		c.Spec.Env = maps.Clone(c.Spec.Env)
		if c.Spec.Env == nil {
			c.Spec.Env = map[string]string{}
		}
		for k, v := range set {
			if _, own := c.Spec.Env[k]; !own {
				c.Spec.Env[k] = v
			}
		}
	}
}

// findProvider is the program of a provider type: docker's plugin of that name,
// or any program in PATH.
func findProvider(kind string) (string, error) {
	home, _ := os.UserHomeDir()
	for _, dir := range []string{filepath.Join(home, ".docker/cli-plugins"), "/usr/local/lib/docker/cli-plugins", "/usr/libexec/docker/cli-plugins", "/usr/lib/docker/cli-plugins"} {
		path := filepath.Join(dir, "docker-"+kind)
		if st, err := os.Stat(path); err == nil && st.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	if strings.Contains(kind, "/") {
		return "", fmt.Errorf("provider %q: a type is a program's name, not a path", kind)
	}
	path, err := exec.LookPath(kind)
	if err != nil {
		return "", fmt.Errorf("provider %q: there is neither a program nor a docker plugin of that name in PATH", kind)
	}
	return path, nil
}

// providerOf is the program behind a service.
func (s *session) providerOf(svc *project.Service) (string, error) {
	program, err := findProvider(svc.Provider.Type)
	if err != nil {
		return "", s.project.Wrong("services."+svc.Name+".provider.type", "install the provider, or correct its name", "%v", err)
	}
	return program, nil
}

// callProvider runs a provider's verb with the options that takes lets through,
// and returns the variables it set.
func (s *session) callProvider(ctx context.Context, svc *project.Service, verb string, takes func(option string) bool) (map[string]string, error) {
	program, err := s.providerOf(svc)
	if err != nil {
		return nil, err
	}
	args := []string{"compose", "--project-name=" + s.name, verb}
	for _, k := range slices.Sorted(maps.Keys(svc.Provider.Options)) {
		if !takes(k) {
			continue
		}
		for _, v := range svc.Provider.Options[k] {
			args = append(args, "--"+k+"="+v)
		}
	}
	cmd := exec.CommandContext(ctx, program, append(args, svc.Name)...)
	cmd.Dir, cmd.Stderr = s.project.WorkingDir, s.globals.err
	cmd.Env = append(os.Environ(), "COMPOSE_PROVIDER_MESSAGES="+providerMessages)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("service %q: run provider %s: %w", svc.Name, svc.Provider.Type, err)
	}
	set, complaint := s.listen(svc.Name, out)
	if err := errors.Join(complaint, cmd.Wait()); err != nil {
		return nil, fmt.Errorf("service %q: provider %s %s: %w", svc.Name, svc.Provider.Type, verb, err)
	}
	return set, nil
}

// anyOption lets all options of a provider through.
func anyOption(string) bool { return true }

// listen reads what a provider says. A message that is not understood is an
// error, since the provider counts on it.
func (s *session) listen(service string, out io.Reader) (set map[string]string, err error) {
	set = map[string]string{}
	prefix := strings.ToUpper(strings.ReplaceAll(service, "-", "_")) + "_"
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var m providerMessage
		if json.Unmarshal(lines.Bytes(), &m) != nil {
			continue // not a message: providers may print what they like
		}
		switch m.Type {
		case "error":
			err = errors.Join(err, errors.New(m.Message))
		case "info":
			s.say(" Service %s %s", service, m.Message)
		case "debug":
		case "setenv", "rawsetenv":
			k, v, ok := strings.Cut(m.Message, "=")
			if !ok {
				err = errors.Join(err, fmt.Errorf("%s %q: it must be KEY=value", m.Type, m.Message))
			}
			if m.Type == "setenv" {
				k = prefix + k
			}
			set[k] = v
		default:
			err = errors.Join(err, fmt.Errorf("message of type %q is not understood: %s", m.Type, providerMessages))
		}
	}
	return set, errors.Join(err, lines.Err())
}

// unprovide has providers take away what they provided, dependants being gone.
func (s *session) unprovide(ctx context.Context, services []string, verb string) error {
	var errs []error
	for _, name := range slices.Backward(s.providers(services, true)) {
		if s.dryRun {
			continue
		}
		_, err := s.callProvider(ctx, s.project.Services[name], verb, anyOption)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// A providerMetadata is what a provider tells of itself: which optional verbs
// it has, and their options.
type providerMetadata struct {
	Stop *struct {
		Parameters []struct {
			Name string `json:"name"`
		} `json:"parameters"`
	} `json:"stop"`
}

// pauseProviders has the providers that know stop do so, dependants being
// stopped. The others, and those that tell nothing of themselves, are left
// alone, as docker compose does.
func (s *session) pauseProviders(ctx context.Context, services []string) error {
	var errs []error
	for _, name := range slices.Backward(s.providers(services, true)) {
		svc := s.project.Services[name]
		program, err := s.providerOf(svc)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out, err := exec.CommandContext(ctx, program, "compose", "metadata").Output()
		var m providerMetadata
		if err != nil || json.Unmarshal(out, &m) != nil || m.Stop == nil || s.dryRun {
			continue
		}
		_, err = s.callProvider(ctx, svc, "stop", func(option string) bool {
			for _, p := range m.Stop.Parameters {
				if p.Name == option {
					return true
				}
			}
			return false
		})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
