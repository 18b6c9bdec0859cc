package residue

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/davit-run/davit/engine/store"
)

// disk counts what lies below the root that a project owns while it is up.
func disk(p Place, s Snapshot) error {
	l := store.Layout{Data: filepath.Join(p.Root, "data"), Run: filepath.Join(p.Root, "run")}
	held, err := heldLocks()
	if err != nil {
		return fmt.Errorf("count locks: %w", err)
	}
	err = walk(l.Run, func(path string, d fs.DirEntry) {
		switch {
		case isHeld(path, held):
			s[Sockets] = append(s[Sockets], "held "+path)
		case !d.IsDir() && strings.HasPrefix(path, filepath.Join(l.Run, "projects")+"/"):
			s[Sockets] = append(s[Sockets], path)
		case d.Type()&fs.ModeSocket != 0:
			s[Sockets] = append(s[Sockets], path)
		}
	})
	if err != nil {
		return err
	}
	if err := walk(l.Networks(), func(path string, d fs.DirEntry) {
		if !d.IsDir() {
			s[Leases] = append(s[Leases], path)
		}
	}); err != nil {
		return err
	}
	if err := walk(l.Ingest(), func(path string, _ fs.DirEntry) {
		if filepath.Dir(path) == l.Ingest() {
			s[Blobs] = append(s[Blobs], path)
		}
	}); err != nil {
		return err
	}
	return containers(l, s)
}

// containers counts container directories, which hold the upper and work
// directories, and temporary files beside records.
func containers(l store.Layout, s Snapshot) error {
	dirs, err := filepath.Glob(filepath.Join(l.Projects(), "*", "containers", "*"))
	if err != nil {
		return err
	}
	s[WorkDirs] = append(s[WorkDirs], dirs...)
	for _, dir := range []string{l.Blobs(), l.Images(), l.Volumes(), l.Projects(), l.Layers()} {
		for _, pattern := range []string{".*.tmp*", "*/.*.tmp*"} {
			files, err := filepath.Glob(filepath.Join(dir, pattern))
			if err != nil {
				return err
			}
			s[Blobs] = append(s[Blobs], files...)
		}
	}
	return nil
}

// walk visits everything below dir, which need not exist, without following
// links, and passes by what vanishes meanwhile.
func walk(dir string, visit func(string, fs.DirEntry)) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			visit(path, d)
		}
		return err
	})
}

// heldLocks returns the device and inode of every file that is locked, as
// /proc/locks writes them.
func heldLocks() (map[string]bool, error) {
	f, err := os.Open("/proc/locks")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	held := map[string]bool{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		for _, field := range strings.Fields(lines.Text()) {
			if strings.Count(field, ":") == 2 {
				held[field] = true
			}
		}
	}
	return held, nil
}

func isHeld(path string, held map[string]bool) bool {
	var st syscall.Stat_t
	if syscall.Lstat(path, &st) != nil || st.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return false
	}
	major := (st.Dev>>8)&0xfff | (st.Dev>>32)&^0xfff
	minor := st.Dev&0xff | (st.Dev>>12)&^0xff
	return held[fmt.Sprintf("%02x:%02x:%d", major, minor, st.Ino)]
}
