package volume

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
)

// checkDriver refuses definitions that could never be mounted.
func checkDriver(v engine.Volume) error {
	if v.Driver != "local" {
		return fmt.Errorf("there is no volume driver %q: davit has local only, which mounts nfs, tmpfs, bind and others by driver_opts", v.Driver)
	}
	for k := range v.Options {
		if !slices.Contains([]string{"type", "o", "device", "size"}, k) {
			return fmt.Errorf("option %q: the local driver knows type, o, device and size", k)
		}
	}
	if Mounted(v) && v.Options["device"] == "" {
		return errors.New("option device is missing: with type and o, it says what to mount")
	}
	if v.Options["device"] != "" && v.Options["type"] == "" && !isBind(v) {
		return errors.New("option type is missing: it says how to mount the device, such as nfs, tmpfs or none")
	}
	return nil
}

// Mounted tells whether a volume's content is not its own directory but
// something mounted there (type, o and device of the local driver).
func Mounted(v engine.Volume) bool {
	return v.Options["type"] != "" || v.Options["device"] != ""
}

func isBind(v engine.Volume) bool {
	for o := range strings.SplitSeq(v.Options["o"], ",") {
		if o == "bind" || o == "rbind" {
			return true
		}
	}
	return false
}

// Mount mounts what a volume's options name onto target, in the calling
// thread's mount namespace; target must exist. It runs no mount helper: an
// nfs device's addr= is taken from the device when it is not given.
func Mount(v engine.Volume, target string) error {
	flags, data, err := mountOptions(v)
	if err != nil {
		return fmt.Errorf("mount volume %s: %w", v.Name, err)
	}
	device, kind := v.Options["device"], v.Options["type"]
	if kind == "none" || flags&unix.MS_BIND != 0 {
		kind = ""
	}
	if err := unix.Mount(device, target, kind, flags&^remountOnly(flags), data); err != nil {
		return fmt.Errorf("mount volume %s: %s on %s: %w%s", v.Name, device, target, err, advice(v, err))
	}
	if rest := remountOnly(flags); rest != 0 {
		// A bind takes further flags only by a second call (mount(2)).
		if err := unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_BIND|rest, ""); err != nil {
			_ = unix.Unmount(target, unix.MNT_DETACH)
			return fmt.Errorf("mount volume %s: %w", v.Name, err)
		}
	}
	return nil
}

// Unmount takes a volume's mount away; none being there is no error. What a bind
// brought along is made private before: unmounting it would propagate to where
// it comes from (mount_namespaces(7)).
func Unmount(target string) error {
	err := unix.Mount("", target, "", unix.MS_PRIVATE|unix.MS_REC, "")
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil // nothing is mounted
	}
	if err != nil {
		return fmt.Errorf("make %s private: %w", target, err)
	}
	err = unix.Unmount(target, unix.UMOUNT_NOFOLLOW)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	if errors.Is(err, unix.EBUSY) {
		err = unix.Unmount(target, unix.UMOUNT_NOFOLLOW|unix.MNT_DETACH)
	}
	if err != nil {
		return fmt.Errorf("unmount %s: %w", target, err)
	}
	return nil
}

func remountOnly(flags uintptr) uintptr {
	if flags&unix.MS_BIND == 0 {
		return 0
	}
	return flags &^ (unix.MS_BIND | unix.MS_REC)
}

func advice(v engine.Volume, err error) string {
	switch {
	case errors.Is(err, unix.ENODEV):
		return ": this kernel has no file system of type " + v.Options["type"]
	case errors.Is(err, unix.ENOENT):
		return ": does the device exist?"
	}
	return ""
}

var mountFlags = []struct {
	name string
	set  uintptr
	off  uintptr
}{
	{"bind", unix.MS_BIND, 0}, {"rbind", unix.MS_BIND | unix.MS_REC, 0},
	{"ro", unix.MS_RDONLY, 0}, {"rw", 0, unix.MS_RDONLY},
	{"nosuid", unix.MS_NOSUID, 0}, {"suid", 0, unix.MS_NOSUID},
	{"nodev", unix.MS_NODEV, 0}, {"dev", 0, unix.MS_NODEV},
	{"noexec", unix.MS_NOEXEC, 0}, {"exec", 0, unix.MS_NOEXEC},
	{"noatime", unix.MS_NOATIME, 0}, {"atime", 0, unix.MS_NOATIME},
	{"nodiratime", unix.MS_NODIRATIME, 0}, {"relatime", unix.MS_RELATIME, 0},
	{"strictatime", unix.MS_STRICTATIME, 0}, {"sync", unix.MS_SYNCHRONOUS, 0},
	{"dirsync", unix.MS_DIRSYNC, 0}, {"mand", unix.MS_MANDLOCK, 0},
	{"defaults", 0, 0}, {"async", 0, unix.MS_SYNCHRONOUS},
}

// mountOptions splits o into mount(2)'s flags and the file system's data.
func mountOptions(v engine.Volume) (flags uintptr, data string, err error) {
	var rest []string
	for o := range strings.SplitSeq(v.Options["o"], ",") {
		if o == "" {
			continue
		}
		i := slices.IndexFunc(mountFlags, func(f struct {
			name string
			set  uintptr
			off  uintptr
		}) bool {
			return f.name == o
		})
		if i < 0 {
			rest = append(rest, o)
			continue
		}
		flags = (flags | mountFlags[i].set) &^ mountFlags[i].off
	}
	if strings.HasPrefix(v.Options["type"], "nfs") {
		if rest, err = nfsOptions(rest, v.Options["device"]); err != nil {
			return 0, "", err
		}
	}
	return flags, strings.Join(rest, ","), nil
}

// nfsOptions adds addr=, which the kernel demands and mount.nfs(8) would find
// out. Only an address can be used: looking names up is left to the caller.
func nfsOptions(options []string, device string) ([]string, error) {
	for _, o := range options {
		addr, ok := strings.CutPrefix(o, "addr=")
		if !ok {
			continue
		}
		if _, err := netip.ParseAddr(addr); err != nil {
			return nil, fmt.Errorf("nfs: addr=%s is not an IP address", addr)
		}
		return options, nil
	}
	i := strings.LastIndex(device, ":/")
	if i <= 0 {
		return nil, errors.New("nfs: give the server's IP address by o: addr=…")
	}
	host := strings.Trim(device[:i], "[]")
	if _, err := netip.ParseAddr(host); err != nil {
		return nil, fmt.Errorf("nfs: give the IP address of %s by o: addr=…", host)
	}
	return append(options, "addr="+host), nil
}

// refuseMounted keeps Remove from deleting what is mounted in a volume: the
// content of another host's disk.
func (s *Store) refuseMounted(name string) error {
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	dir, err := filepath.EvalSymlinks(s.layout.Volume(name))
	if err != nil {
		return err
	}
	for line := range strings.SplitSeq(string(b), "\n") {
		f := strings.Fields(line)
		if len(f) > 4 && (f[4] == dir || strings.HasPrefix(f[4], dir+"/")) {
			return fmt.Errorf("%w: something is mounted at %s", ErrInUse, f[4])
		}
	}
	return nil
}
