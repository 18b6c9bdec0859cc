package layer

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"strings"

	"golang.org/x/sys/unix"
)

func (u *unpacker) makeFile(at place, h *tar.Header) error {
	sparse := isSparse(h)
	if err := u.checkSize(h.Size, sparse); err != nil {
		return err
	}
	var fd int
	err := u.again(at, func() (err error) {
		fd, err = unix.Openat(at.parent, at.name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		return err
	})
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if h.Size > 0 {
		if sparse {
			err = u.copySparse(fd, h.Size)
		} else {
			err = u.copyFile(fd, at.path, h.Size)
		}
		if err != nil {
			return err
		}
	}
	if err := setFd(fd, h); err != nil {
		return err
	}
	return setTimes(at.parent, at.name, h.ModTime)
}

// isSparse tells whether an entry's size counts holes that are not in the
// archive: both GNU ways of saying so.
func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for k := range h.PAXRecords {
		if strings.HasPrefix(k, "GNU.sparse.") {
			return true
		}
	}
	return false
}

// checkSize holds a declared size against the limits before it is read.
func (u *unpacker) checkSize(size int64, sparse bool) error {
	if sparse {
		if size > u.limits.Sparse-u.sparse {
			return &LimitError{"bytes of sparse files", u.limits.Sparse}
		}
		u.sparse += size
		return nil
	}
	if size > u.limits.Bytes-u.bytes {
		return u.limits.tooLarge()
	}
	return nil
}

func (u *unpacker) copyFile(fd int, path string, size int64) error {
	if u.recipe != nil {
		u.recipe.file(path, size)
	}
	u.src.content = true
	left := size
	for left > 0 {
		b := u.buf[:min(left, int64(len(u.buf)))]
		n, err := io.ReadFull(u.tar, b)
		if n > 0 {
			if err := writeAll(fd, b[:n]); err != nil {
				return err
			}
		}
		left -= int64(n)
		if err != nil {
			return short(err)
		}
	}
	u.bytes += size
	return nil
}

func short(err error) error {
	if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the archive ends within this file")
	}
	return err
}

// hole is the unit in which sparse files are kept sparse.
const hole = 4096

var zeros [hole]byte

// copySparse writes only the blocks that hold anything. The archive's bytes
// go into the recipe whole: a sparse map cannot be rebuilt from the file.
func (u *unpacker) copySparse(fd int, size int64) error {
	for off := int64(0); off < size; {
		b := u.buf[:min(size-off, int64(len(u.buf)))]
		n, err := io.ReadFull(u.tar, b)
		if err := u.writeBlocks(fd, b[:n], off); err != nil {
			return err
		}
		off += int64(n)
		if err != nil {
			return short(err)
		}
	}
	return unix.Ftruncate(fd, size)
}

func (u *unpacker) writeBlocks(fd int, b []byte, off int64) error {
	for len(b) > 0 {
		block := b[:min(hole, len(b))]
		if !bytes.Equal(block, zeros[:len(block)]) {
			if u.bytes += int64(len(block)); u.bytes > u.limits.Bytes {
				return u.limits.tooLarge()
			}
			if _, err := unix.Pwrite(fd, block, off); err != nil {
				return err
			}
		}
		b = b[len(block):]
		off += int64(len(block))
	}
	return nil
}

func writeAll(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}
