package bundle

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
)

const (
	hardMount  = unix.MS_NOSUID | unix.MS_NOEXEC | unix.MS_NODEV
	defaultShm = 64 << 20
)

// mounts lists what is mounted in the container: moby's file systems, davit's
// own files, then the record's mounts, each after those it lies in. A mount of
// the record at one of the former's places stands in for it.
func (b *builder) mounts() error {
	own := b.systemMounts()
	wanted, err := b.recordMounts()
	if err != nil {
		return err
	}
	taken := map[string]bool{}
	for _, m := range wanted {
		taken[m.Destination] = true
	}
	for _, m := range append(own, b.fileBinds()...) {
		if !taken[m.Destination] {
			b.out.Config.Mounts = append(b.out.Config.Mounts, m)
		}
	}
	slices.SortStableFunc(wanted, func(x, y *configs.Mount) int {
		return strings.Count(x.Destination, "/") - strings.Count(y.Destination, "/")
	})
	b.out.Config.Mounts = append(b.out.Config.Mounts, wanted...)
	if b.c.Spec.Init {
		b.out.Config.Mounts = append(b.out.Config.Mounts, &configs.Mount{
			Device: "bind", Source: b.p.Init, Destination: InitPath,
			Flags:            unix.MS_BIND | unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV,
			PropagationFlags: []int{unix.MS_PRIVATE},
		})
	}
	return nil
}

// systemMounts are moby's DefaultLinuxSpec (HARDENING 1.4).
func (b *builder) systemMounts() []*configs.Mount {
	ro := unix.MS_RDONLY
	if b.c.Spec.Security.Privileged {
		ro = 0
	}
	cgro := ro
	if b.opts.writableCgroups {
		cgro = 0
	}
	mnt := func(dev, dst, data string, flags int) *configs.Mount {
		return &configs.Mount{Device: dev, Source: dev, Destination: dst, Data: data, Flags: flags}
	}
	shm := b.c.Spec.Resources.ShmSize
	if shm <= 0 {
		shm = defaultShm
	}
	out := []*configs.Mount{
		mnt("proc", "/proc", "", hardMount),
		mnt("tmpfs", "/dev", "mode=755,size=65536k", unix.MS_NOSUID|unix.MS_STRICTATIME),
		mnt("devpts", "/dev/pts", "newinstance,ptmxmode=0666,mode=0620,gid=5", unix.MS_NOSUID|unix.MS_NOEXEC),
		mnt("sysfs", "/sys", "", hardMount|ro),
		mnt("cgroup", "/sys/fs/cgroup", "", hardMount|cgro),
		mnt("mqueue", "/dev/mqueue", "", hardMount),
	}
	if src := b.p.Binds["/dev/shm"]; src != "" {
		return append(out, bind(src, "/dev/shm", false))
	}
	return append(out, mnt("tmpfs", "/dev/shm", "mode=1777,size="+strconv.FormatInt(shm, 10), hardMount))
}

// fileBinds are the three files by which a container knows names.
func (b *builder) fileBinds() []*configs.Mount {
	var out []*configs.Mount
	for _, f := range []string{"/etc/resolv.conf", "/etc/hostname", "/etc/hosts"} {
		if src := b.p.Binds[f]; src != "" && !b.mounted(f) {
			out = append(out, bind(src, f, b.c.Spec.Security.ReadOnlyRoot))
		}
	}
	return out
}

// mounted says whether the record itself mounts something at a place.
func (b *builder) mounted(target string) bool {
	return slices.ContainsFunc(b.c.Spec.Mounts, func(m engine.Mount) bool { return path.Clean(m.Target) == target })
}

func bind(src, dst string, readOnly bool) *configs.Mount {
	m := &configs.Mount{
		Device: "bind", Source: src, Destination: dst,
		Flags: unix.MS_BIND | unix.MS_REC, PropagationFlags: []int{unix.MS_PRIVATE | unix.MS_REC},
	}
	if readOnly {
		m.Flags |= unix.MS_RDONLY
	}
	return m
}

// recordMounts are the mounts and files that the record asks for.
func (b *builder) recordMounts() ([]*configs.Mount, error) {
	var out []*configs.Mount
	for _, m := range b.c.Spec.Mounts {
		cm, err := b.mount(m)
		if err != nil {
			return nil, fmt.Errorf("mount %s: %w", m.Target, err)
		}
		out = append(out, cm)
	}
	for _, target := range slices.Sorted(maps.Keys(b.c.ImageConfig.Volumes)) {
		target = path.Clean(target)
		if src := b.p.Binds[target]; src != "" && !b.mounted(target) {
			if err := checkTarget(target); err != nil {
				return nil, fmt.Errorf("volume %s of the image: %w", target, err)
			}
			out = append(out, bind(src, target, false))
		}
	}
	for _, f := range b.c.Spec.Files {
		target := path.Clean(f.Target)
		if err := checkTarget(target); err != nil {
			return nil, fmt.Errorf("%s %s: %w", f.Kind, f.Name, err)
		}
		src := b.p.Binds[target]
		if src == "" {
			return nil, fmt.Errorf("%s %s: its content is not there", f.Kind, f.Name)
		}
		m := bind(src, target, true)
		m.Flags |= hardMount
		out = append(out, m)
	}
	return out, nil
}

func (b *builder) mount(m engine.Mount) (*configs.Mount, error) {
	target := path.Clean(m.Target)
	if err := checkTarget(target); err != nil {
		return nil, err
	}
	if m.Type == engine.MountTmpfs {
		return tmpfs(m, target)
	}
	src := b.p.Binds[target]
	if src == "" {
		return nil, fmt.Errorf("its source is not there")
	}
	cm := bind(src, target, m.ReadOnly || m.Type == engine.MountImage)
	if !m.ReadOnly && (target == "/sys" || strings.HasPrefix(target, "/sys/")) {
		b.warn("mount %s is writable: the container can change the host's kernel objects", target)
	}
	if m.Type != engine.MountBind {
		return cm, nil
	}
	if err := b.propagate(cm, m); err != nil {
		return nil, err
	}
	return cm, b.recursive(cm, m)
}

// propagate sets a bind's propagation, and the root's when it must let mounts
// through; the source itself keeps its peers because it is opened where it is.
func (b *builder) propagate(cm *configs.Mount, m engine.Mount) error {
	flags := map[string]int{
		"": unix.MS_PRIVATE | unix.MS_REC, "rprivate": unix.MS_PRIVATE | unix.MS_REC, "private": unix.MS_PRIVATE,
		"rshared": unix.MS_SHARED | unix.MS_REC, "shared": unix.MS_SHARED,
		"rslave": unix.MS_SLAVE | unix.MS_REC, "slave": unix.MS_SLAVE,
	}
	f, ok := flags[m.Propagation]
	if !ok {
		return fmt.Errorf("propagation %q: use rprivate, private, rshared, shared, rslave or slave", m.Propagation)
	}
	cm.PropagationFlags = []int{f}
	root := &b.out.Config.RootPropagation
	switch {
	case f&unix.MS_SHARED != 0:
		*root = unix.MS_SHARED | unix.MS_REC
	case f&unix.MS_SLAVE != 0 && *root == 0:
		*root = unix.MS_SLAVE | unix.MS_REC
	}
	return nil
}

// recursive applies bind.recursive: whether the mounts below a bind come along,
// and whether read-only goes for them too. Docker makes them read-only as far
// as the kernel can.
func (b *builder) recursive(cm *configs.Mount, m engine.Mount) error {
	switch m.Recursive {
	case "", "enabled":
	case "disabled":
		cm.Flags &^= unix.MS_REC
		return nil
	case "writable":
		return nil
	case "readonly":
		if !m.ReadOnly {
			return fmt.Errorf("recursive readonly needs read_only")
		}
		if !b.p.Facts.RecursiveRO {
			return fmt.Errorf("recursive readonly needs Linux 5.12")
		}
	default:
		return fmt.Errorf("recursive %q: use enabled, disabled, writable or readonly", m.Recursive)
	}
	if m.ReadOnly && b.p.Facts.RecursiveRO {
		cm.RecAttr = &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	}
	return nil
}

// checkTarget refuses places that would undo the container's walls: its root,
// and /proc and below except the files lxcfs emulates (CVE-2019-16884,
// CVE-2023-27561 and their like).
func checkTarget(target string) error {
	switch {
	case !strings.HasPrefix(target, "/"):
		return fmt.Errorf("not an absolute path")
	case target == "/":
		return fmt.Errorf("nothing can be mounted over the container's root")
	case strings.IndexByte(target, 0) >= 0:
		return fmt.Errorf("a path holds no zero byte")
	case target == "/proc", strings.HasPrefix(target, "/proc/"):
		emulated := []string{"cpuinfo", "diskstats", "loadavg", "meminfo", "slabinfo", "stat", "swaps", "uptime"}
		if !slices.Contains(emulated, strings.TrimPrefix(target, "/proc/")) {
			return fmt.Errorf("nothing can be mounted over /proc or below it")
		}
	}
	return nil
}
