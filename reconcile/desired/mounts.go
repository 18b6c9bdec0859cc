package desired

import (
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/project"
	"github.com/davit-run/davit/reconcile"
)

// volumes are the project's named ones.
func (b *builder) volumes() {
	for _, key := range slices.Sorted(maps.Keys(b.p.Volumes)) {
		v := b.p.Volumes[key]
		out := reconcile.Volume{
			Volume:   engine.Volume{Name: v.Name, Driver: v.Driver, Options: v.DriverOpts},
			Key:      key,
			External: v.External,
			Origin:   b.origin("volumes." + key),
		}
		if !v.External {
			out.Project = b.p.Name
			out.Labels = b.resourceLabels(v.Labels, reconcile.LabelVolume, key, v.Hash)
		}
		b.out.Volumes = append(b.out.Volumes, out)
	}
}

// mounts are a service's own, then those it takes from other services.
func (b *builder) mounts(s *project.Service) []engine.Mount {
	var out []engine.Mount
	taken := map[string]bool{}
	add := func(m engine.Mount) {
		if !taken[m.Target] {
			taken[m.Target] = true
			out = append(out, m)
		}
	}
	for i, v := range s.Volumes {
		b.checkMount("services."+s.Name+".volumes."+strconv.Itoa(i), v)
		add(b.mount(v))
	}
	for i, t := range s.Tmpfs {
		add(b.tmpfs(s, i, t))
	}
	for _, from := range s.VolumesFrom {
		name, mode, _ := strings.Cut(from, ":")
		other := b.p.Services[name]
		if other == nil {
			continue
		}
		for _, m := range b.mounts(other) {
			if m.Type == engine.MountVolume && m.Source == "" {
				continue // another container's own; the loader has warned
			}
			m.ReadOnly = m.ReadOnly || mode == "ro"
			add(m)
		}
	}
	return out
}

// checkMount refuses what only other systems can mount. A short form such as
// d:/data is read as a drive, so that a volume called d would silently be
// another, anonymous one.
func (b *builder) checkMount(key string, v project.Mount) {
	switch {
	case v.Type == "npipe" || v.Type == "cluster":
		b.wrong(key+".type", "use one of: bind, volume, tmpfs, image", "mounts of type %s do not exist here", v.Type)
	case len(v.Target) > 1 && v.Target[1] == ':':
		b.wrong(key, "give the volume a longer name, or use the long form with source and target", "%q is read as a Windows path", v.Target)
	case !strings.HasPrefix(v.Target, "/"):
		b.wrong(key, "write it with a / at the start", "target %q is not an absolute path", v.Target)
	}
}

func (b *builder) mount(v project.Mount) engine.Mount {
	m := engine.Mount{Type: v.Type, Source: v.Source, Target: v.Target, ReadOnly: v.ReadOnly}
	switch v.Type {
	case engine.MountVolume:
		if named := b.p.Volumes[v.Source]; named != nil {
			m.Source = named.Name
		}
	case engine.MountBind:
		m.CreateHostPath = !isEngineSocket(v.Source)
	}
	if o := v.Bind; o != nil {
		m.Propagation, m.Recursive, m.SELinux = o.Propagation, o.Recursive, o.SELinux
		m.CreateHostPath = m.CreateHostPath && o.CreateHostPath
	}
	if o := v.Volume; o != nil {
		m.NoCopy, m.Subpath, m.Labels = o.NoCopy, o.Subpath, o.Labels
	}
	if o := v.Tmpfs; o != nil {
		m.TmpfsSize, m.TmpfsMode = o.Size, o.Mode
	}
	if o := v.Image; o != nil {
		m.Subpath = o.SubPath
	}
	return m
}

// isEngineSocket says whether a path is where Docker listens: never made a
// directory, because the program that looks for it there would then break in
// an unreadable way.
func isEngineSocket(path string) bool {
	path = filepath.Clean(path)
	return path == "/var/run/docker.sock" || path == "/run/docker.sock"
}

// tmpfs reads the short form /PATH[:OPTION,…].
func (b *builder) tmpfs(s *project.Service, i int, short string) engine.Mount {
	target, options, _ := strings.Cut(short, ":")
	m := engine.Mount{Type: engine.MountTmpfs, Target: target}
	for _, o := range strings.Split(options, ",") {
		key, value, _ := strings.Cut(o, "=")
		var err error
		switch key {
		case "":
		case "size":
			if m.TmpfsSize, err = units.RAMInBytes(value); err != nil && strings.HasSuffix(value, "%") {
				m.TmpfsOptions, err = append(m.TmpfsOptions, o), nil
			}
		case "mode":
			var mode uint64
			mode, err = strconv.ParseUint(value, 8, 32)
			m.TmpfsMode = uint32(mode)
		case "ro":
			m.ReadOnly = true
		case "rw":
		default:
			m.TmpfsOptions = append(m.TmpfsOptions, o)
		}
		if err != nil {
			b.wrong("services."+s.Name+".tmpfs."+strconv.Itoa(i), "write it as size=64m or mode=1770", "%q is not a tmpfs option", o)
		}
	}
	return m
}
