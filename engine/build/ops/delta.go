package ops

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/build/copyin"
	"github.com/davit-run/davit/engine/build/scan"
	"github.com/davit-run/davit/engine/store/inroot"
)

// A Manifest is what a copy put where: destination to a fingerprint of type,
// owner, mode and content. With it, the next copy of the same instruction onto
// the same parent brings the changes alone.
type Manifest struct {
	Base   int               `json:"base"`   // layers of the parent
	Deltas int               `json:"deltas"` // layers of changes over the first whole copy
	Places map[string]string `json:"places"`
}

// add records placements, but for the directories that were made only to reach
// the destination.
func (m *Manifest) add(t scan.Tree, places []copyin.Placement) error {
	marks, err := fingerprints(t, places)
	if err != nil {
		return err
	}
	for i, p := range places {
		if !p.Above {
			m.Places[p.Dest] = mark(p, marks[i])
		}
	}
	return nil
}

// mark prefixes a fingerprint with the type, which a delta may not change.
func mark(p copyin.Placement, fingerprint string) string {
	switch {
	case p.Entry.IsDir():
		return "d" + fingerprint
	case p.Entry.IsRegular():
		return "f" + fingerprint
	}
	return "l" + fingerprint
}

// newLayerID names a layer that a build makes. Its content is known by the
// cache record that leads to it; a digest would cost a pass over every byte.
func newLayerID() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails since Go 1.24
	return hex.EncodeToString(b[:])
}

// delta copies by way of what the same instruction on the same parent left
// last time. It declines (ok false) where only a whole copy is sure to be
// right: a link or a type changed, something went away that the parent has
// too, or the deltas have become many.
func (o *fileOp) delta(ctx context.Context, in []Snapshot, out Output) (s []Snapshot, ok bool, err error) {
	prev := out.Previous
	if prev == nil || prev.Manifest == nil || prev.Manifest.Deltas >= maxDeltas || len(prev.Layers) >= maxStack || !o.onlyCopies() {
		return nil, false, nil
	}
	for _, id := range prev.Layers {
		if !o.host.Layers.Has(id) {
			return nil, false, nil
		}
	}
	view, err := o.host.mount(prev.Layers, nil)
	if err != nil {
		return nil, false, err
	}
	defer view.Close()
	d := &change{old: prev.Manifest.Places, places: make(map[string]string)}
	for _, a := range o.actions {
		if err := o.compare(in, int(a.SecondaryInput), a.GetCopy(), view, d); err != nil || d.unsure {
			return nil, false, err
		}
	}
	gone, sure, err := o.gone(in, d)
	if err != nil || !sure {
		return nil, false, err
	}
	id, err := o.write(prev.Layers, true, func(root *inroot.Root) error { return d.apply(ctx, root, gone) })
	if err != nil {
		return nil, false, err
	}
	return []Snapshot{{
		Layers:   append(slices.Clone(prev.Layers), id),
		Manifest: &Manifest{Base: prev.Manifest.Base, Deltas: prev.Manifest.Deltas + 1, Places: d.places},
	}}, true, nil
}

// A change is how one copy differs from the last one.
type change struct {
	old, places map[string]string
	put         []batch
	unsure      bool
}

type batch struct {
	tree   scan.Tree
	opts   copyin.Options
	places []copyin.Placement
}

func (o *fileOp) compare(in []Snapshot, source int, c copyAction, view *inroot.Root, d *change) error {
	t := in[source].Tree
	if t == nil {
		d.unsure = true // a stage's tree is copied whole: its view does not outlive this function
		return nil
	}
	opts, err := o.options(in, c)
	if err != nil {
		return err
	}
	list, err := sources(t, c)
	if err != nil {
		return err
	}
	b := batch{tree: t, opts: opts}
	for _, src := range list {
		places, err := copyin.Plan(t, src, view, c.Dest, opts)
		if err != nil {
			d.unsure = true // a whole copy tells what is wrong, or that nothing is
			return nil
		}
		marks, err := fingerprints(t, places)
		if err != nil {
			return err
		}
		d.collect(&b, places, marks)
	}
	d.put = append(d.put, b)
	return nil
}

func (d *change) collect(b *batch, places []copyin.Placement, marks []string) {
	for i, p := range places {
		m := mark(p, marks[i])
		old, known := d.old[p.Dest]
		d.places[p.Dest] = m
		switch {
		case known && old == m:
			continue
		case p.Above || p.Keep || m[0] == 'l' || p.Entry.Nlink > 1 && p.Entry.IsRegular():
			d.unsure = true
		case known && old[0] != m[0]:
			d.unsure = true
		}
		b.places = append(b.places, p)
	}
}

// gone lists what the last copy brought and this one does not; not sure when
// the parent has something at one of those paths that would have to reappear.
func (o *fileOp) gone(in []Snapshot, d *change) (gone []string, sure bool, err error) {
	for dest, m := range d.old {
		if _, ok := d.places[dest]; ok {
			continue
		}
		if m[0] == 'l' {
			return nil, false, nil
		}
		gone = append(gone, dest)
	}
	if len(gone) == 0 || o.base < 0 {
		return gone, true, nil
	}
	parent, err := o.host.mount(in[o.base].Layers, nil)
	if err != nil {
		return nil, false, err
	}
	defer parent.Close()
	for _, dest := range gone {
		if _, err := parent.Lstat(dest); err == nil {
			return nil, false, nil
		} else if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
			return nil, false, err
		}
	}
	return gone, true, nil
}

func (d *change) apply(ctx context.Context, root *inroot.Root, gone []string) error {
	slices.SortFunc(gone, func(a, b string) int { return strings.Compare(b, a) }) // the innermost first
	for _, p := range gone {
		if err := root.RemoveAll(p); err != nil {
			return err
		}
	}
	for _, b := range d.put {
		if err := copyin.Apply(ctx, b.tree, root, b.places, b.opts); err != nil {
			return err
		}
	}
	return nil
}
