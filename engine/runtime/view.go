package runtime

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	pathrs "github.com/cyphar/filepath-securejoin/pathrs-lite"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/bundle"
	"github.com/davit-run/davit/engine/store"
)

// The views of a container's files that ViewMain stands up.
const (
	ViewImage  = "image"  // what its image has
	ViewLayers = "layers" // with what it wrote, its volumes left out
	ViewRead   = "read"   // with its volumes and binds, as it sees them
	ViewWrite  = "write"  // the same, to be written to: nothing else may use its upper
)

// viewFD is the socket to whoever asked for a view.
const viewFD = 3

// ViewMain is `davit-runtime view DATA RUN PROJECT ID VIEW`: it stands up the
// files of a container that does not run, in a mount namespace of its own,
// sends the root's descriptor over the socket on descriptor 3, and stays until
// the other end is closed. Nothing of it is seen in the host's mount table.
func ViewMain(args []string) int {
	if len(args) != 5 {
		return 2
	}
	layout := store.Layout{Data: args[0], Run: args[1]}
	at := filepath.Join(layout.RunProject(args[2]), "view", strconv.Itoa(os.Getpid()))
	root, st, err := view(layout, args[2], args[3], args[4], at)
	if err != nil {
		_ = unix.Sendmsg(viewFD, []byte(err.Error()), nil, nil, 0)
	} else {
		err = unix.Sendmsg(viewFD, []byte(viewOwner(layout, args[2], args[3], root)), unix.UnixRights(int(root.Fd())), nil, 0)
	}
	if err == nil {
		_, _ = unix.Read(viewFD, make([]byte, 1)) // until the other end is closed
	}
	if st != nil {
		_ = st.strike()
	}
	_ = os.Remove(at)
	_ = os.Remove(filepath.Dir(at))
	if err != nil {
		return 1
	}
	return 0
}

// viewOwner tells, as UID:GID, who a container's process will run as; root where
// that cannot be said, which starting it will tell of.
func viewOwner(layout store.Layout, project, id string, root *os.File) string {
	c, err := layout.LoadContainer(project, id)
	if err != nil {
		return "0:0"
	}
	u, err := bundle.LookupUser(root, cmp.Or(c.Spec.User, c.ImageConfig.User), nil)
	if err != nil {
		return "0:0"
	}
	return fmt.Sprintf("%d:%d", u.UID, u.GID)
}

func view(layout store.Layout, project, id, kind, at string) (*os.File, *stage, error) {
	c, err := layout.LoadContainer(project, id)
	if err != nil {
		return nil, nil, err
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return nil, nil, os.NewSyscallError("unshare", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return nil, nil, os.NewSyscallError("mount", err)
	}
	st, err := newStage(at)
	if err != nil {
		return nil, nil, err
	}
	if err := viewStack(layout, c, kind, st).mount(at); err != nil {
		return nil, st, err
	}
	root, err := os.OpenFile(at, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil && (kind == ViewRead || kind == ViewWrite) {
		err = (&viewer{layout: layout, c: c, stage: st, root: root, writes: kind == ViewWrite}).mounts()
	}
	return root, st, err
}

// viewStack is the overlay behind a view. What is only read is mounted without
// an upper, so that a container that runs meanwhile is not disturbed.
func viewStack(layout store.Layout, c *engine.Container, kind string, st *stage) stack {
	s := written(layout, c)
	s.lower = layerDirs(layout, c.Layers)
	if kind == ViewWrite {
		return s
	}
	upper := s.upper
	s = stack{lower: s.lower}
	if _, err := os.Stat(upper); err == nil && kind != ViewImage {
		s.lower = append(s.lower, upper)
	}
	if len(s.lower) < 2 { // overlayfs wants two where nothing is written
		if empty, err := st.place(true); err == nil {
			s.lower = append([]string{empty}, s.lower...)
		}
	}
	return s
}

// A viewer mounts what a container has mounted below the root of a view.
type viewer struct {
	layout store.Layout
	c      *engine.Container
	stage  *stage
	root   *os.File
	writes bool
}

// mounts puts volumes and binds in their places, outer ones first. What is not
// there is left out.
func (v *viewer) mounts() error {
	s := &sources{l: Launch{Layout: v.layout, Container: v.c}, c: v.c, stage: v.stage, binds: map[string]string{}}
	if err := s.volumes(); err != nil {
		return err
	}
	readOnly := map[string]bool{}
	for _, m := range v.c.Spec.Mounts {
		readOnly[path.Clean(m.Target)] = m.ReadOnly
		if m.Type == engine.MountBind {
			s.binds[path.Clean(m.Target)] = m.Source
		}
	}
	targets := slices.SortedFunc(maps.Keys(s.binds), func(a, b string) int { return strings.Count(a, "/") - strings.Count(b, "/") })
	for _, t := range targets {
		if _, err := os.Stat(s.binds[t]); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := v.mount(s.binds[t], t, readOnly[t]); err != nil {
			return fmt.Errorf("mount at %s: %w", t, err)
		}
	}
	return nil
}

func (v *viewer) mount(source, target string, readOnly bool) error {
	tree, err := openTree(source)
	if err != nil {
		return err
	}
	defer tree.Close()
	if readOnly {
		attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
		if err := unix.MountSetattr(int(tree.Fd()), "", unix.AT_EMPTY_PATH, attr); err != nil {
			return os.NewSyscallError("mount_setattr", err)
		}
	}
	at, err := v.target(target, tree)
	if errors.Is(err, fs.ErrNotExist) && !v.writes {
		return nil // nobody can make it in a view that is only read
	}
	if err != nil {
		return err
	}
	defer at.Close()
	err = unix.MoveMount(int(tree.Fd()), "", int(at.Fd()), "", unix.MOVE_MOUNT_F_EMPTY_PATH|unix.MOVE_MOUNT_T_EMPTY_PATH)
	return os.NewSyscallError("move_mount", err)
}

// target opens the place of a mount below the root, following links inside it
// only, and makes a missing directory when the view is written to.
func (v *viewer) target(target string, tree *os.File) (*os.File, error) {
	at, err := pathrs.OpenatInRoot(v.root, target)
	if !errors.Is(err, fs.ErrNotExist) || !v.writes {
		return at, err
	}
	if st, err := tree.Stat(); err != nil || !st.IsDir() {
		return nil, fs.ErrNotExist
	}
	return pathrs.MkdirAllHandle(v.root, target, 0o755)
}
