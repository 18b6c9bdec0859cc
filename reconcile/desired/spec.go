package desired

import (
	"maps"
	"slices"
	"strings"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/project"
	"github.com/davit-run/davit/reconcile"
)

// spec is the definition of a service's containers.
func (b *builder) spec(s *project.Service) engine.Spec {
	b.windows(s)
	spec := engine.Spec{
		Image:       b.p.ImageName(s),
		Platform:    s.Platform,
		Command:     s.Command,
		Entrypoint:  s.Entrypoint,
		NoCommand:   s.Command != nil && len(s.Command) == 0,
		NoEntry:     s.Entrypoint != nil && len(s.Entrypoint) == 0,
		WorkingDir:  s.WorkingDir,
		User:        s.User,
		GroupAdd:    s.GroupAdd,
		Umask:       s.Umask,
		Hostname:    s.Hostname,
		Domainname:  s.DomainName,
		Labels:      b.labels(s),
		Annotations: s.Annotations,
		TTY:         s.Tty,
		OpenStdin:   s.StdinOpen,
		Init:        s.Init != nil && *s.Init,
		StopSignal:  s.StopSignal,
		Restart:     restart(s),
		Health:      health(s.HealthCheck),
		Mounts:      b.mounts(s),
		Files:       b.files(s),
		Resources:   resources(s),
		Security:    security(s),
		Hooks:       hooks(s),
	}
	if s.Provider != nil {
		spec.Image = ""
	}
	if s.StopGracePeriod != nil {
		d := engine.Duration(*s.StopGracePeriod)
		spec.StopTimeout = &d
	}
	if s.Logging != nil {
		b.checkLogging(s)
		spec.Log = engine.LogConfig{Driver: s.Logging.Driver, Options: s.Logging.Options}
	}
	spec.Env, spec.UnsetEnv = variables(s.Environment)
	b.network(s, &spec)
	return spec
}

// checkLogging refuses a driver that davit does not have: whoever asked for it
// would look for the lines where they never arrive.
func (b *builder) checkLogging(s *project.Service) {
	switch s.Logging.Driver {
	case "", "json-file", "local", "none", "journald", "syslog":
	default:
		b.wrong("services."+s.Name+".logging.driver", "use one of json-file, local, none, journald, syslog",
			"there is no logging driver %q", s.Logging.Driver)
	}
}

// windows refuses what only Windows has.
func (b *builder) windows(s *project.Service) {
	for _, w := range []struct {
		key   string
		given bool
	}{
		{"isolation", s.Isolation != "" && s.Isolation != "default"}, {"cpu_count", s.CPUCount != 0}, {"cpu_percent", s.CPUPercent != 0},
	} {
		if w.given {
			b.wrong("services."+s.Name+"."+w.key, "take it out", "exists on Windows only")
		}
	}
}

// variables splits an environment into what is set and what is taken away: a
// key without a value that the caller's environment does not have either.
func variables(env map[string]*string) (map[string]string, []string) {
	if len(env) == 0 {
		return nil, nil
	}
	set := make(map[string]string, len(env))
	var unset []string
	for k, v := range env {
		if v == nil {
			unset = append(unset, k)
			continue
		}
		set[k] = *v
	}
	slices.Sort(unset)
	return set, unset
}

// labels are the service's own and those by which compose users find
// containers; the ones that vary by replica are added when a container is made.
func (b *builder) labels(s *project.Service) map[string]string {
	out := maps.Clone(s.Labels)
	if out == nil {
		out = map[string]string{}
	}
	out[reconcile.LabelProject] = b.p.Name
	out[reconcile.LabelService] = s.Name
	out[reconcile.LabelOneOff] = "False"
	out[reconcile.LabelHash] = s.Hash
	out[reconcile.LabelDir] = b.p.WorkingDir
	out[reconcile.LabelFiles] = strings.Join(b.p.ComposeFiles, ",")
	if len(b.p.EnvFiles) > 0 {
		out[reconcile.LabelPrefix+"project.environment_file"] = strings.Join(b.p.EnvFiles, ",")
	}
	if b.o.Version != "" {
		out[reconcile.LabelPrefix+"version"] = b.o.Version
	}
	return out
}

func hooks(s *project.Service) engine.Hooks {
	return engine.Hooks{PreStart: preStartDigest(s.PreStart), PostStart: execs(s.PostStart), PreStop: execs(s.PreStop)}
}

func execs(hooks []project.Hook) []engine.Exec {
	var out []engine.Exec
	for _, h := range hooks {
		e := engine.Exec{Args: h.Command, WorkingDir: h.WorkingDir, User: h.User, Privileged: h.Privileged}
		for _, k := range slices.Sorted(maps.Keys(h.Environment)) {
			if v := h.Environment[k]; v != nil {
				e.Env = append(e.Env, k+"="+*v)
			}
		}
		out = append(out, e)
	}
	return out
}

func security(s *project.Service) engine.Security {
	sec := engine.Security{
		Privileged:   s.Privileged,
		CapAdd:       s.CapAdd,
		CapDrop:      s.CapDrop,
		Options:      s.SecurityOpt,
		Tight:        s.Extensions["x-security"] == "tight",
		NoCompat32:   s.Extensions["x-seccomp"] == "no-compat32",
		ReadOnlyRoot: s.ReadOnly,
		DeviceRules:  s.DeviceCgroupRules,
		Sysctls:      s.Sysctls,
		IPC:          s.Ipc,
		PID:          s.Pid,
		UTS:          s.Uts,
		Userns:       s.UserNSMode,
		Cgroup:       s.Cgroup,
	}
	for _, d := range s.Devices {
		target := d.Target
		if target == "" {
			target = d.Source
		}
		sec.Devices = append(sec.Devices, engine.Device{Source: d.Source, Target: target, Permissions: d.Permissions})
	}
	return sec
}
