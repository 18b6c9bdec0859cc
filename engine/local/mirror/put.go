package mirror

import (
	"errors"
	"fmt"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

func (h *hand) directory(to string, mode uint32) error {
	if path.Clean("/"+to) == "/" {
		return nil
	}
	parent, name, err := h.parent(to)
	if err != nil {
		return err
	}
	dir, err := openDir(parent, name)
	switch {
	case err == nil:
		defer dir.Close()
		return unix.Fchmod(int(dir.Fd()), mode&0o7777)
	case !errors.Is(err, unix.ENOENT):
		if err := unix.Unlinkat(parent, name, 0); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	if err := unix.Mkdirat(parent, name, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
		return err
	}
	if dir, err = openDir(parent, name); err != nil {
		return err
	}
	defer dir.Close()
	if err := dir.Chown(h.m.uid, h.m.gid); err != nil {
		return err
	}
	return unix.Fchmod(int(dir.Fd()), mode&0o7777)
}

// openDir opens a directory that must not be a link: what is set on the
// descriptor then cannot be diverted.
func openDir(parent int, name string) (*os.File, error) {
	fd, err := unix.Openat(parent, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

// temporary is a name for what is not complete yet, beside where it will be.
func (h *hand) temporary() string { return fmt.Sprintf("%s%d~", h.temp, h.m.serial.Add(1)) }

func (h *hand) link(from, to string) error {
	target, err := os.Readlink(from)
	if err != nil {
		return nil // it went, or is something else now: that will be heard of
	}
	return h.place(to, func(dir int, name string) error {
		if err := unix.Symlinkat(target, dir, name); err != nil {
			return err
		}
		return unix.Fchownat(dir, name, h.m.uid, h.m.gid, unix.AT_SYMLINK_NOFOLLOW)
	})
}

func (h *hand) file(from, to string) error {
	src, st, err := openHost(from)
	if err != nil {
		return nil // as above
	}
	defer unix.Close(src)
	err = h.place(to, func(dir int, name string) error {
		fd, err := unix.Openat(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		if err := h.copy(fd, src); err != nil {
			return err
		}
		return h.dress(fd, st)
	})
	if errors.Is(err, unix.EBUSY) {
		return h.overwrite(src, to) // a file is mounted there
	}
	return err
}

// dress gives a file the container's owner, and mode and time of the host's.
func (h *hand) dress(fd int, st unix.Stat_t) error {
	if err := unix.Fchown(fd, h.m.uid, h.m.gid); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, st.Mode&0o777); err != nil {
		return err
	}
	return unix.Futimes(fd, []unix.Timeval{unix.NsecToTimeval(st.Atim.Nano()), unix.NsecToTimeval(st.Mtim.Nano())})
}

// copy copies what src has from its start. The descriptors are bare: os.File
// costs three more calls into the kernel for each, which is much for a file of
// a few lines.
func (h *hand) copy(to, src int) error {
	if h.buf == nil {
		h.buf = make([]byte, 128<<10)
	}
	for at := int64(0); ; {
		n, err := unix.Pread(src, h.buf, at)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if n == 0 || err != nil {
			return err
		}
		if err := writeAll(to, h.buf[:n]); err != nil {
			return err
		}
		at += int64(n)
	}
}

func writeAll(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		b = b[max(n, 0):]
	}
	return nil
}

// overwrite writes into a file that cannot be replaced.
func (h *hand) overwrite(src int, to string) error {
	f, err := h.m.root.OpenFile(to, unix.O_WRONLY|unix.O_TRUNC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	return h.copy(int(f.Fd()), src)
}

// place makes something under a temporary name and then puts it where it
// belongs: whoever looks finds the old one or the new one, and never a half.
func (h *hand) place(to string, make func(dir int, name string) error) error {
	dir, name, err := h.parent(to)
	if err != nil {
		return err
	}
	temp := h.temporary()
	err = make(dir, temp)
	if err == nil {
		err = unix.Renameat(dir, temp, dir, name)
	}
	if errors.Is(err, unix.EISDIR) || errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.EEXIST) {
		if err = h.m.root.RemoveAll(to); err == nil {
			err = unix.Renameat(dir, temp, dir, name)
		}
	}
	if err != nil {
		_ = unix.Unlinkat(dir, temp, 0)
	}
	return err
}

// openHost opens a regular file of the host for reading, and says what it is.
func openHost(p string) (fd int, st unix.Stat_t, err error) {
	for {
		fd, err = unix.Open(p, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return -1, st, &os.PathError{Op: "open", Path: p, Err: err}
	}
	err = unix.Fstat(fd, &st)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFREG {
		err = errors.New("not a regular file")
	}
	if err != nil {
		unix.Close(fd)
		return -1, st, &os.PathError{Op: "open", Path: p, Err: err}
	}
	return fd, st, nil
}
