package images

import (
	"archive/tar"
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// writeLayer writes the files below dir as an image layer and returns its
// digest in hex. Overlay whiteouts become those of the OCI layer format.
func writeLayer(path, dir string) (string, error) {
	f, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	buf := bufio.NewWriterSize(io.MultiWriter(f, h), 1<<20)
	w := &layerWriter{Writer: tar.NewWriter(buf), dir: dir, links: map[[2]uint64]string{}}
	if err := filepath.WalkDir(dir, w.add); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	if err := buf.Flush(); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), f.Sync()
}

type layerWriter struct {
	*tar.Writer
	dir   string
	links map[[2]uint64]string // device and inode to the name it was written under
}

func (w *layerWriter) add(path string, d fs.DirEntry, err error) error {
	if err != nil || path == w.dir {
		return err
	}
	name, err := filepath.Rel(w.dir, path)
	if err != nil {
		return err
	}
	info, err := d.Info()
	if err != nil {
		return err
	}
	st := info.Sys().(*syscall.Stat_t)
	if whiteout(st) {
		return w.empty(filepath.Join(filepath.Dir(name), ".wh."+filepath.Base(name)))
	}
	if info.Mode()&fs.ModeSocket != 0 {
		return nil
	}
	hdr, err := w.header(path, name, info, st)
	if err != nil {
		return err
	}
	if err := w.WriteHeader(hdr); err != nil {
		return err
	}
	switch {
	case info.IsDir() && opaque(path):
		return w.empty(filepath.Join(name, ".wh..wh..opq"))
	case hdr.Typeflag == tar.TypeReg:
		return w.content(path)
	}
	return nil
}

func (w *layerWriter) header(path, name string, info fs.FileInfo, st *syscall.Stat_t) (*tar.Header, error) {
	link := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		var err error
		if link, err = os.Readlink(path); err != nil {
			return nil, err
		}
	}
	hdr, err := tar.FileInfoHeader(info, link)
	if err != nil {
		return nil, err
	}
	hdr.Name, hdr.Uname, hdr.Gname = name, "", ""
	if info.IsDir() {
		hdr.Name += "/"
	}
	w.extended(path, hdr)
	if info.Mode().IsRegular() && st.Nlink > 1 {
		key := [2]uint64{uint64(st.Dev), st.Ino}
		if first, ok := w.links[key]; ok {
			hdr.Typeflag, hdr.Linkname, hdr.Size = tar.TypeLink, first, 0
		} else {
			w.links[key] = name
		}
	}
	return hdr, nil
}

// extended adds file capabilities, the one extended attribute that Debian's
// packages set.
func (w *layerWriter) extended(path string, hdr *tar.Header) {
	buf := make([]byte, 64)
	if n, err := unix.Lgetxattr(path, "security.capability", buf); err == nil {
		hdr.PAXRecords = map[string]string{"SCHILY.xattr.security.capability": string(buf[:n])}
	}
}

func (w *layerWriter) content(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(w, f)
	return err
}

func (w *layerWriter) empty(name string) error {
	return w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(name, "./"), Mode: 0o644})
}

// whiteout tells overlayfs's mark of a removed file: a 0/0 character device.
func whiteout(st *syscall.Stat_t) bool {
	return st.Mode&syscall.S_IFMT == syscall.S_IFCHR && st.Rdev == 0
}

func opaque(path string) bool {
	buf := make([]byte, 2)
	n, err := unix.Lgetxattr(path, "trusted.overlay.opaque", buf)
	return err == nil && n == 1 && buf[0] == 'y'
}
