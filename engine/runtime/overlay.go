package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/engine/store/quota"
)

// A stack is one overlay: directories seen as one, writes going to the upper.
type stack struct {
	lower []string // absolute directories, lowest first
	upper string   // empty: read-only
	work  string
	// volatile skips every sync of the upper: only for one whose content is
	// worth nothing after a crash.
	volatile bool
	size     int64  // bytes that the upper may hold; 0: any number
	lock     string // taken to set size
	// warn is told what this host cannot give; nil: nobody asks.
	warn func(string)
}

// written is the stack of a container that is to be written to, without the
// layers below.
func written(layout store.Layout, c *engine.Container) stack {
	dir := layout.Container(c.Project, c.ID)
	return stack{
		upper: filepath.Join(dir, "upper"), work: filepath.Join(dir, "work"),
		size: c.Spec.Resources.StorageSize, lock: layout.Lock("quota"),
	}
}

// before65 is set once only mount(2) would do: a kernel that does not know
// lowerdir+ writes each try into its log.
var before65 atomic.Bool

// mount attaches the overlay at target, an existing directory. Its upper and
// work directories are made if missing, the upper's root as the topmost layer
// has it. index, metacopy and redirect_dir are off so that a layer stays what
// it was, however it is stacked later.
func (s stack) mount(target string) error {
	if err := s.prepare(); err != nil {
		return err
	}
	if before65.Load() && s.mountOld(target) == nil {
		return nil
	}
	err := s.mountNew(target)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EPERM) {
		// Before 6.5 there is no lowerdir+; mount(2) has a limit of one page.
		if old := s.mountOld(target); old != nil {
			return fmt.Errorf("mount overlay at %s: %w", target, errors.Join(err, old))
		}
		before65.Store(true)
		return nil
	}
	if err != nil {
		return fmt.Errorf("mount overlay at %s: %w", target, err)
	}
	return nil
}

func (s stack) prepare() error {
	if s.upper == "" {
		return nil
	}
	if err := os.Mkdir(s.upper, 0o755); err == nil {
		if err := s.copyRoot(); err != nil {
			return fmt.Errorf("make upper directory: %w", err)
		}
	} else if !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make upper directory: %w", err)
	}
	if err := os.MkdirAll(s.work, 0o700); err != nil {
		return fmt.Errorf("make work directory: %w", err)
	}
	if err := s.limit(); err != nil {
		return err
	}
	// A volatile mount leaves this mark, and the kernel refuses the upper
	// until somebody says that its content may be used again.
	err := os.RemoveAll(filepath.Join(s.work, "work", "incompat"))
	if err != nil {
		return fmt.Errorf("clear work directory: %w", err)
	}
	return nil
}

// limit bounds the upper and its work directory, which are one to a quota: files
// are renamed from one to the other, which no file system does between two
// projects.
func (s stack) limit() error {
	if s.size <= 0 {
		return nil
	}
	err := quota.Limit(context.Background(), s.lock, s.size, s.upper, s.work)
	if errors.Is(err, quota.ErrUnsupported) {
		if s.warn != nil {
			s.warn(fmt.Sprintf("storage_opt size is not enforced: %v", quota.ErrUnsupported))
		}
		return nil
	}
	return err
}

// copyRoot gives a fresh upper the owner and mode of the topmost layer's root:
// the merged root shows those of the upper.
func (s stack) copyRoot() error {
	if len(s.lower) == 0 {
		return os.Chmod(s.upper, 0o755)
	}
	var st unix.Stat_t
	if err := unix.Stat(s.lower[len(s.lower)-1], &st); err != nil {
		return err
	}
	if err := os.Chown(s.upper, int(st.Uid), int(st.Gid)); err != nil {
		return err
	}
	return unix.Chmod(s.upper, st.Mode&0o7777)
}

// mountNew uses the mount API of Linux 6.5, where each layer is an option of
// its own and their number is bounded by the kernel's 500 alone.
func (s stack) mountNew(target string) error {
	ctx, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return os.NewSyscallError("fsopen", err)
	}
	defer unix.Close(ctx)
	set := func(key, value string) error {
		if err := unix.FsconfigSetString(ctx, key, value); err != nil {
			return fmt.Errorf("%s=%s: %w%s", key, value, err, complaint(ctx))
		}
		return nil
	}
	for i := len(s.lower) - 1; i >= 0; i-- {
		if err := set("lowerdir+", s.lower[i]); err != nil {
			return err
		}
	}
	for _, o := range s.options() {
		key, value, ok := strings.Cut(o, "=")
		if !ok {
			err = unix.FsconfigSetFlag(ctx, key)
		} else {
			err = set(key, value)
		}
		if err != nil {
			return err
		}
	}
	if err := unix.FsconfigCreate(ctx); err != nil {
		return fmt.Errorf("fsconfig: %w%s", err, complaint(ctx))
	}
	attr := 0
	if s.upper == "" {
		attr = unix.MOUNT_ATTR_RDONLY
	}
	m, err := unix.Fsmount(ctx, unix.FSMOUNT_CLOEXEC, attr)
	if err != nil {
		return os.NewSyscallError("fsmount", err)
	}
	defer unix.Close(m)
	return attach(m, target)
}

// complaint is what the kernel has to say about a mount context.
func complaint(ctx int) string {
	var buf [512]byte
	n, err := unix.Read(ctx, buf[:])
	if err != nil || n <= 2 {
		return ""
	}
	return " (" + strings.TrimSpace(strings.TrimPrefix(string(buf[:n]), "e ")) + ")"
}

func (s stack) options() []string {
	o := []string{"index=off", "metacopy=off", "redirect_dir=off"}
	if s.upper == "" {
		return o
	}
	o = append(o, "upperdir="+s.upper, "workdir="+s.work)
	if s.volatile {
		o = append(o, "volatile")
	}
	return o
}

// mountOld is mount(2). Layers are named through this process's descriptors,
// so that a hundred of them fit into the one page the kernel takes.
func (s stack) mountOld(target string) error {
	var names []string
	for i := len(s.lower) - 1; i >= 0; i-- {
		fd, err := unix.Open(s.lower[i], unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			return &os.PathError{Op: "open", Path: s.lower[i], Err: err}
		}
		defer unix.Close(fd)
		names = append(names, fmt.Sprintf("/proc/self/fd/%d", fd))
	}
	if strings.ContainsAny(s.upper+s.work, ",\\") {
		return fmt.Errorf("a comma or backslash in %s needs Linux 6.5", s.upper)
	}
	data := strings.Join(append([]string{"lowerdir=" + strings.Join(names, ":")}, s.options()...), ",")
	var flags uintptr
	if s.upper == "" {
		flags = unix.MS_RDONLY
	}
	return os.NewSyscallError("mount", unix.Mount("overlay", target, "overlay", flags, data))
}

// attach puts a detached mount at target.
func attach(mount int, target string) error {
	err := unix.MoveMount(mount, "", unix.AT_FDCWD, target, unix.MOVE_MOUNT_F_EMPTY_PATH)
	return os.NewSyscallError("move_mount", err)
}
