package cli

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/mattn/go-shellwords"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/reconcile"
)

// draft is the one-off container: the service's definition with the flags and
// the command over it.
func (o runOptions) draft(project string, base reconcile.Container, args []string) (reconcile.CreateContainer, error) {
	spec := base.Spec
	spec.Env, spec.Labels = maps.Clone(spec.Env), maps.Clone(spec.Labels)
	spec.Mounts, spec.Endpoints = slices.Clone(spec.Mounts), slices.Clone(spec.Endpoints)
	slug := randomWord()
	name := o.name
	if name == "" {
		name = project + "-" + base.Service + "-run-" + slug
	}
	spec.Restart = engine.RestartPolicy{}
	spec.Health = base.Spec.Health
	for _, step := range []func(*engine.Spec) error{o.process, o.environment, o.network, o.mounts, o.rights} {
		if err := step(&spec); err != nil {
			return reconcile.CreateContainer{}, err
		}
	}
	if len(args) > 0 {
		spec.Command, spec.NoCommand = args, false
	}
	o.label(&spec, base.Service, slug)
	return reconcile.CreateContainer{Name: name, Service: base.Service, Number: 1, Spec: spec, Hash: base.Hash, AutoRemove: o.rm}, nil
}

// randomWord is twelve hex digits that nobody has had before.
func randomWord() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return hex.EncodeToString(b[:])
}

func (o runOptions) label(spec *engine.Spec, service, slug string) {
	if spec.Labels == nil {
		spec.Labels = map[string]string{}
	}
	spec.Labels[reconcile.LabelService] = service
	spec.Labels[reconcile.LabelOneOff] = "True"
	spec.Labels[reconcile.LabelSlug] = slug
	spec.Labels[reconcile.LabelNumber] = "1"
	for _, l := range o.labels {
		k, v, _ := strings.Cut(l, "=")
		spec.Labels[k] = v
	}
}

func (o runOptions) process(spec *engine.Spec) error {
	if o.user != "" {
		spec.User = o.user
	}
	if o.workdir != "" {
		spec.WorkingDir = o.workdir
	}
	if !o.entrypointSet {
		return nil
	}
	words, err := shellwords.Parse(o.entrypoint)
	if err != nil {
		return fmt.Errorf("--entrypoint %q: %w", o.entrypoint, err)
	}
	spec.Entrypoint, spec.NoEntry = words, len(words) == 0
	spec.Command, spec.NoCommand = nil, false
	return nil
}

func (o runOptions) environment(spec *engine.Spec) error {
	if spec.Env == nil {
		spec.Env = map[string]string{}
	}
	var words []string
	for _, file := range o.envFiles {
		lines, err := envFile(file)
		if err != nil {
			return err
		}
		words = append(words, lines...)
	}
	for _, w := range variables(append(words, o.env...)) {
		k, v, _ := strings.Cut(w, "=")
		spec.Env[k] = v
		spec.UnsetEnv = slices.DeleteFunc(slices.Clone(spec.UnsetEnv), func(u string) bool { return u == k })
	}
	return nil
}

// envFile reads KEY=value lines.
func envFile(path string) ([]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("--env-from-file: %w", err)
	}
	defer f.Close()
	var out []string
	for lines := bufio.NewScanner(f); ; {
		if !lines.Scan() {
			return out, lines.Err()
		}
		if l := strings.TrimSpace(lines.Text()); l != "" && !strings.HasPrefix(l, "#") {
			out = append(out, l)
		}
	}
}

// network leaves a one-off without published ports and without the service's
// names, unless it is asked to have them.
func (o runOptions) network(spec *engine.Spec) error {
	if !o.ports {
		spec.Ports = nil
	}
	for _, p := range o.publish {
		ports, err := publishFlag(p)
		if err != nil {
			return err
		}
		spec.Ports = append(slices.Clone(spec.Ports), ports)
	}
	for i := range spec.Endpoints {
		if !o.aliases {
			spec.Endpoints[i].Aliases = nil
		}
		spec.Endpoints[i].IPv4, spec.Endpoints[i].IPv6, spec.Endpoints[i].MAC = "", "", ""
	}
	return nil
}

// publishFlag reads [IP:][HOST:]CONTAINER[/PROTOCOL].
func publishFlag(text string) (engine.Port, error) {
	wrong := fmt.Errorf("--publish %q: write [IP:][HOST:]CONTAINER[/PROTOCOL], such as 8080:80", text)
	rest, proto, ok := strings.Cut(text, "/")
	p := engine.Port{Protocol: "tcp"}
	if ok {
		p.Protocol = proto
	}
	if p.Protocol != "tcp" && p.Protocol != "udp" && p.Protocol != "sctp" {
		return p, wrong
	}
	i := strings.LastIndexByte(rest, ':')
	target := rest[i+1:]
	n, err := strconv.ParseUint(target, 10, 16)
	if err != nil || n == 0 {
		return p, wrong
	}
	p.ContainerPort = uint16(n)
	if i < 0 {
		return p, nil
	}
	host := rest[:i]
	if j := strings.LastIndexByte(host, ':'); j >= 0 {
		p.HostIP, host = strings.Trim(host[:j], "[]"), host[j+1:]
	}
	if host == "" {
		return p, nil
	}
	n, err = strconv.ParseUint(host, 10, 16)
	if err != nil {
		return p, wrong
	}
	p.HostPort = uint16(n)
	return p, nil
}

// mounts adds -v [SOURCE:]TARGET[:ro] to the service's own.
func (o runOptions) mounts(spec *engine.Spec) error {
	for _, text := range o.volumes {
		m, err := volumeFlag(text)
		if err != nil {
			return err
		}
		spec.Mounts = slices.DeleteFunc(spec.Mounts, func(x engine.Mount) bool { return x.Target == m.Target })
		spec.Mounts = append(spec.Mounts, m)
	}
	return nil
}

func volumeFlag(text string) (engine.Mount, error) {
	parts := strings.Split(text, ":")
	m := engine.Mount{Type: engine.MountVolume}
	switch len(parts) {
	case 1:
		m.Target = parts[0]
	case 2, 3:
		m.Source, m.Target = parts[0], parts[1]
	default:
		return m, fmt.Errorf("--volume %q: write [SOURCE:]TARGET[:ro]", text)
	}
	if len(parts) == 3 {
		for _, word := range strings.Split(parts[2], ",") {
			switch word {
			case "ro":
				m.ReadOnly = true
			case "z", "Z":
				m.SELinux = word
			case "rw":
			default:
				return m, fmt.Errorf("--volume %q: unknown option %q", text, word)
			}
		}
	}
	if !filepath.IsAbs(m.Target) {
		return m, fmt.Errorf("--volume %q: the target must be an absolute path", text)
	}
	if strings.HasPrefix(m.Source, ".") || strings.HasPrefix(m.Source, "/") || strings.HasPrefix(m.Source, "~") {
		m.Type, m.CreateHostPath = engine.MountBind, true
		var err error
		if m.Source, err = filepath.Abs(m.Source); err != nil {
			return m, err
		}
	}
	return m, nil
}

func (o runOptions) rights(spec *engine.Spec) error {
	spec.Security.CapAdd = append(slices.Clone(spec.Security.CapAdd), o.capAdd...)
	spec.Security.CapDrop = append(slices.Clone(spec.Security.CapDrop), o.capDrop...)
	return nil
}
