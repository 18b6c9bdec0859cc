package runtime

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	goruntime "runtime"
	"strconv"

	pathrs "github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"
)

// A stage is the directory in which the mounts of one starting container stand
// until its init has taken them along: its root, and every source that has no
// path of its own. It is seen in the caller's mount namespace alone, and gone
// when the container runs.
type stage struct {
	root string // where the container's root is mounted
	dir  string // where its sources are
	n    int
}

func newStage(root string) (*stage, error) {
	s := &stage{root: root, dir: root + ".d"}
	if err := os.MkdirAll(s.root, 0o700); err != nil {
		return nil, fmt.Errorf("make mount point: %w", err)
	}
	return s, nil
}

// strike takes the mounts away: lazily, because they live on in the container,
// and because a plain unmount of an overlay syncs the whole disk. The root's
// mount point stays, empty: libcontainer starts every exec in it.
func (s *stage) strike() error {
	err := detach(s.root)
	entries, _ := os.ReadDir(s.dir)
	for _, e := range entries {
		path := filepath.Join(s.dir, e.Name())
		err = errors.Join(err, detach(path))
		_ = os.Remove(path)
	}
	_ = os.Remove(s.dir)
	return err
}

// detach unmounts whatever is mounted at path, however often. A bind's source
// was cloned with its peers, so that propagation reaches the container; what is
// mounted below it would therefore be unmounted on the host as well, if it were
// not made private first (mount_namespaces(7), "umount propagates").
func detach(path string) error {
	for range 64 {
		err := unix.Mount("", path, "", unix.MS_PRIVATE|unix.MS_REC, "")
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			return &os.PathError{Op: "make private", Path: path, Err: err}
		}
		switch err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); {
		case err == nil:
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
			return nil
		default:
			return &os.PathError{Op: "unmount", Path: path, Err: err}
		}
	}
	return fmt.Errorf("unmount %s: mounted again and again", path)
}

// place makes the next mount point of the stage, a file or a directory.
func (s *stage) place(dir bool) (string, error) {
	if s.n++; s.n == 1 {
		if err := os.MkdirAll(s.dir, 0o700); err != nil {
			return "", err
		}
	}
	path := filepath.Join(s.dir, strconv.Itoa(s.n))
	if dir {
		return path, os.Mkdir(path, 0o700)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	return path, f.Close()
}

// take attaches a detached mount and returns where.
func (s *stage) take(mount *os.File) (string, error) {
	defer mount.Close()
	st, err := mount.Stat()
	if err != nil {
		return "", err
	}
	path, err := s.place(st.IsDir())
	if err != nil {
		return "", err
	}
	return path, attach(int(mount.Fd()), path)
}

// view stands an overlay on the stage, or what lies at a path in it.
func (s *stage) view(o stack, subpath string) (string, error) {
	if o.upper == "" && len(o.lower) == 1 {
		// overlayfs wants two directories where nothing is written.
		empty, err := s.place(true)
		if err != nil {
			return "", err
		}
		o.lower = append([]string{empty}, o.lower...)
	}
	at, err := s.place(true)
	if err != nil {
		return "", err
	}
	if err := o.mount(at); err != nil {
		return "", err
	}
	if path.Clean("/"+subpath) == "/" {
		return at, nil
	}
	tree, err := openSubtree(at, subpath)
	if err != nil {
		return "", err
	}
	return s.take(tree)
}

// memory stands an empty in-memory file system on the stage, for secrets.
func (s *stage) memory() (string, error) {
	dir, err := s.place(true)
	if err != nil {
		return "", err
	}
	err = unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700")
	return dir, os.NewSyscallError("mount", err)
}

// writeOwned writes a file with the owner and mode somebody asked for.
func writeOwned(name string, text []byte, uid, gid int, mode, defaultMode uint32) error {
	if mode == 0 {
		mode = defaultMode
	}
	if err := os.WriteFile(name, text, 0o600); err != nil {
		return err
	}
	if err := os.Chown(name, uid, gid); err != nil {
		return err
	}
	return unix.Chmod(name, mode&0o7777)
}

// openTree clones the mount at a path, with those below it, as a detached one.
// The clone keeps its peers: what propagates to the original does to it.
func openTree(path string) (*os.File, error) {
	fd, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return nil, &os.PathError{Op: "open_tree", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// openSubtree clones what lies at path below dir, never leaving dir, whatever
// links a container has put there (CVE-2021-25741).
func openSubtree(dir, path string) (*os.File, error) {
	root, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	h, err := pathrs.OpenatInRoot(root, path)
	if err != nil {
		return nil, fmt.Errorf("subpath %s: %w", path, err)
	}
	defer h.Close()
	fd, err := unix.OpenTree(int(h.Fd()), "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE|unix.AT_EMPTY_PATH)
	if err != nil {
		return nil, &os.PathError{Op: "open_tree", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// inMounts runs f on a thread of its own that has joined a mount namespace;
// the thread ends with f. A nil namespace is the caller's, and costs nothing.
func inMounts(ns *os.File, f func() error) error {
	if ns == nil {
		return f()
	}
	done := make(chan error, 1)
	go func() {
		goruntime.LockOSThread() // and never unlocked: the thread is spoilt
		if err := unix.Unshare(unix.CLONE_FS); err != nil {
			done <- os.NewSyscallError("unshare", err)
			return
		}
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS); err != nil {
			done <- fmt.Errorf("join mount namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}
