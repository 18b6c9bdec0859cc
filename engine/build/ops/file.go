package ops

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/moby/buildkit/solver/pb"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/build/copyin"
	"github.com/davit-run/davit/engine/build/scan"
	"github.com/davit-run/davit/engine/layer"
	"github.com/davit-run/davit/engine/store/inroot"
)

// maxDeltas is how many layers of changes are laid over one copy before it is
// made whole again.
const maxDeltas = 16

// maxStack is how high a stack may be for a change to be laid on it: overlayfs
// takes 500 layers, of which a file of many instructions needs its own.
const maxStack = 128

// A fileOp is COPY, ADD, WORKDIR and the like: a chain of actions on one tree.
type fileOp struct {
	host    *Host
	actions []*pb.FileAction
	inputs  int
	base    int // input that is written to; -1: none
}

// newFile checks that the actions form the one chain that Dockerfiles make:
// each works on what the one before left, and the last is the result.
func newFile(h *Host, op *pb.FileOp, inputs int) (Op, error) {
	f := &fileOp{host: h, actions: op.Actions, inputs: inputs, base: -1}
	if len(op.Actions) == 0 {
		return nil, errors.New("file step without actions")
	}
	for i, a := range op.Actions {
		want := int64(inputs + i - 1)
		if i == 0 {
			f.base = int(a.Input)
			want = a.Input
		}
		last := i == len(op.Actions)-1
		if a.Input != want || (a.Output == 0) != last {
			return nil, errors.New("file step whose actions are not one chain")
		}
	}
	return f, nil
}

// Key implements Op: the actions with the sources reduced to their last
// element, since the rest of the path only selects content.
func (o *fileOp) Key() (string, error) {
	parts := []string{"file"}
	for _, a := range o.actions {
		var v any
		switch x := a.Action.(type) {
		case *pb.FileAction_Copy:
			c := x.Copy.CloneVT()
			c.Src = path.Base(c.Src)
			v = c
		case *pb.FileAction_Mkfile:
			v = x.Mkfile
		case *pb.FileAction_Mkdir:
			v = x.Mkdir
		case *pb.FileAction_Symlink:
			v = x.Symlink
		case *pb.FileAction_Rm:
			v = x.Rm
		default:
			return "", fmt.Errorf("file action of unknown kind %T", x)
		}
		b, err := json.Marshal(v)
		if err != nil {
			return "", err
		}
		parts = append(parts, fmt.Sprintf("%T", a.Action), string(b))
	}
	return Hash(parts...), nil
}

// Inputs implements Op: what is written to is chained; what is read from counts
// by the content that is read.
func (o *fileOp) Inputs(in []Snapshot) ([]InputKey, error) {
	keys := make([]InputKey, len(in))
	for i := range in {
		if i == o.base {
			keys[i].Chained = true
			continue
		}
		keys[i].Content = func() (string, error) { return o.content(in, i) }
	}
	return keys, nil
}

// content digests what the actions read from one input.
func (o *fileOp) content(in []Snapshot, input int) (string, error) {
	t, done, err := o.host.View(in[input])
	if err != nil {
		return "", err
	}
	defer done()
	parts := []string{"content"}
	for _, a := range o.actions {
		c := a.GetCopy()
		if c != nil && int(a.SecondaryInput) == input {
			p, err := contentOf(t, c)
			if err != nil {
				return "", err
			}
			parts = append(parts, p...)
		}
		for _, name := range ownerFiles(owner(a), input) {
			b, err := readTree(t, name, 1<<20)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return "", err
			}
			parts = append(parts, name, string(b))
		}
	}
	return Hash(parts...), nil
}

func contentOf(t scan.Tree, c *pb.FileActionCopy) ([]string, error) {
	if err := required(t, c); err != nil {
		return nil, err
	}
	sources, err := sources(t, c)
	if err != nil {
		return nil, err
	}
	parts := []string{c.Dest}
	for _, src := range sources {
		places, err := copyin.Select(t, src, copyOptions(c))
		if err != nil {
			return nil, err
		}
		marks, err := fingerprints(t, places)
		if err != nil {
			return nil, err
		}
		for i, p := range places {
			parts = append(parts, p.Dest, marks[i])
		}
	}
	return parts, nil
}

// fingerprints fills in the content digests of placements and returns a
// fingerprint of each.
func fingerprints(t scan.Tree, places []copyin.Placement) ([]string, error) {
	entries := make([]scan.Entry, len(places))
	for i, p := range places {
		entries[i] = p.Entry
	}
	digests, err := scan.Digests(t, entries, runtime.GOMAXPROCS(0))
	if err != nil {
		return nil, err
	}
	marks := make([]string, len(places))
	for i := range places {
		places[i].Digest = digests[i]
		marks[i] = hex.EncodeToString(scan.Fingerprint(entries[i], digests[i])[:16])
	}
	return marks, nil
}

// required checks the paths that --parents names without a wildcard: patterns
// that match nothing are no mistake by themselves.
func required(t scan.Tree, c *pb.FileActionCopy) error {
	for _, p := range c.RequiredPaths {
		if _, err := scan.Resolve(t, p, c.FollowSymlink); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("%q: not found: %w", "/"+scan.Clean(p), fs.ErrNotExist)
			}
			return err
		}
	}
	return nil
}

// sources are the paths that an action copies from.
func sources(t scan.Tree, c *pb.FileActionCopy) ([]string, error) {
	if !c.AllowWildcard || !strings.ContainsAny(c.Src, `*?[\`) {
		return []string{c.Src}, nil
	}
	found, err := scan.Glob(t, c.Src, c.FollowSymlink)
	if err != nil {
		return nil, fmt.Errorf("pattern %q: %w", c.Src, err)
	}
	if len(found) == 0 && !c.AllowEmptyWildcard {
		return nil, fmt.Errorf("%q: nothing matches: %w", c.Src, fs.ErrNotExist)
	}
	return found, nil
}

func copyOptions(c *pb.FileActionCopy) copyin.Options {
	o := copyin.Options{
		Include: c.IncludePatterns, Exclude: c.ExcludePatterns, Contents: c.DirCopyContents,
		Follow: c.FollowSymlink, MakeDest: c.CreateDestPath, Replace: c.AlwaysReplaceExistingDestPaths,
	}
	if c.Mode != -1 && c.ModeStr == "" {
		m := uint32(c.Mode)
		o.Mode = &m
	}
	o.Time = timeOf(c.Timestamp)
	return o
}

func timeOf(ns int64) *unix.Timespec {
	if ns == -1 {
		return nil
	}
	t := unix.NsecToTimespec(ns)
	return &t
}

// Run implements Op.
func (o *fileOp) Run(ctx context.Context, in []Snapshot, out Output) ([]Snapshot, error) {
	if s, ok, err := o.delta(ctx, in, out); ok || err != nil {
		return s, err
	}
	var parent []string
	if o.base >= 0 {
		parent = in[o.base].Layers
	}
	m := &Manifest{Base: len(parent), Places: make(map[string]string)}
	id, err := o.write(parent, false, func(root *inroot.Root) error { return o.apply(ctx, in, root, m) })
	if err != nil {
		return nil, err
	}
	s := Snapshot{Layers: append(append([]string(nil), parent...), id)}
	if o.onlyCopies() {
		s.Manifest = m
	}
	return []Snapshot{s}, nil
}

// write makes a layer of what fill does to a stack; change says that it is one of
// the layer on top of it.
func (o *fileOp) write(parent []string, change bool, fill func(*inroot.Root) error) (string, error) {
	d, err := o.host.Layers.NewDraft()
	if err != nil {
		return "", err
	}
	defer d.Discard()
	d.Change = change
	root, err := o.host.mount(parent, d)
	if err != nil {
		return "", err
	}
	err = fill(root)
	if cerr := root.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return "", err
	}
	return o.host.commit(d)
}

// commit publishes a draft under a name of its own.
func (h *Host) commit(d *layer.Draft) (string, error) {
	if err := h.clamp(d.FS); err != nil {
		return "", err
	}
	id := newLayerID()
	if _, err := d.Commit(id); err != nil {
		return "", err
	}
	return id, nil
}

// clamp sets what is newer than the epoch to it, so that the same build gives
// the same bytes.
func (h *Host) clamp(dir string) error {
	if h.Epoch.IsZero() {
		return nil
	}
	when := unix.NsecToTimespec(h.Epoch.UnixNano())
	return filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil || st.Mtim.Sec <= when.Sec {
			return err
		}
		return unix.UtimesNanoAt(unix.AT_FDCWD, p, []unix.Timespec{when, when}, unix.AT_SYMLINK_NOFOLLOW)
	})
}

func (o *fileOp) apply(ctx context.Context, in []Snapshot, root *inroot.Root, m *Manifest) error {
	for _, a := range o.actions {
		var err error
		switch x := a.Action.(type) {
		case *pb.FileAction_Copy:
			err = o.copy(ctx, in, a, x.Copy, root, m)
		case *pb.FileAction_Mkfile:
			err = o.mkfile(in, x.Mkfile, root)
		case *pb.FileAction_Mkdir:
			err = o.mkdir(in, x.Mkdir, root)
		case *pb.FileAction_Symlink:
			err = o.symlink(in, x.Symlink, root)
		case *pb.FileAction_Rm:
			err = rm(x.Rm, root)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (o *fileOp) onlyCopies() bool {
	for _, a := range o.actions {
		if c := a.GetCopy(); c == nil || c.AttemptUnpackDockerCompatibility {
			return false
		}
	}
	return true
}

func (o *fileOp) copy(ctx context.Context, in []Snapshot, a *pb.FileAction, c *pb.FileActionCopy, root *inroot.Root, m *Manifest) error {
	if a.SecondaryInput < 0 || int(a.SecondaryInput) >= len(in) {
		return errors.New("copy without a source")
	}
	t, done, err := o.host.View(in[a.SecondaryInput])
	if err != nil {
		return err
	}
	defer done()
	opts, err := o.options(in, c)
	if err != nil {
		return err
	}
	list, err := sources(t, c)
	if err != nil {
		return err
	}
	for _, src := range list {
		if c.AttemptUnpackDockerCompatibility {
			unpacked, err := unpack(ctx, t, src, root, c.Dest, opts)
			if err != nil {
				return err
			}
			if unpacked {
				continue
			}
		}
		places, err := copyin.Plan(t, src, root, c.Dest, opts)
		if err != nil {
			return err
		}
		if err := copyin.Apply(ctx, t, root, places, opts); err != nil {
			return err
		}
		if err := m.add(t, places); err != nil {
			return err
		}
	}
	return nil
}

// options are those of an action, with its owner looked up.
func (o *fileOp) options(in []Snapshot, c *pb.FileActionCopy) (copyin.Options, error) {
	opts := copyOptions(c)
	if c.ModeStr != "" {
		change, err := symbolicMode(c.ModeStr)
		if err != nil {
			return opts, err
		}
		opts.Change = change
	}
	var err error
	opts.UID, opts.GID, err = o.owner(in, c.Owner)
	return opts, err
}
