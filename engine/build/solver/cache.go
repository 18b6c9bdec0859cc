package solver

import (
	"os"
	"path/filepath"
	"time"

	"github.com/davit-run/davit/engine/build/ops"
	"github.com/davit-run/davit/engine/store"
)

// schema changes whenever keys or snapshots of an older davit must not be
// believed any more.
const schema = "davit-build-1"

// keys are the names of one step on its inputs.
type keys struct {
	id     string // the step and everything it reads
	alias  string // the same by the inputs' own keys: known without reading them
	family string // the step on its chained inputs, whatever it copies
}

// A record is what the cache knows of a step that ran.
type record struct {
	Outputs  []output      `json:"outputs"`
	Manifest *ops.Manifest `json:"manifest,omitempty"`
	Created  time.Time     `json:"created"`
}

type output struct {
	Key    string   `json:"key"`
	Layers []string `json:"layers"`
}

// keys names a step. Where every input has a key of its own, the alias is tried
// first, so that content is only digested when it may differ.
func (s *Solver) keys(op ops.Op, in []ops.Snapshot) (keys, error) {
	own, err := op.Key()
	if err != nil || own == "" {
		return keys{}, err
	}
	if e := s.host.Epoch; !e.IsZero() {
		own = ops.Hash(own, "epoch", e.String())
	}
	inputs, err := op.Inputs(in)
	if err != nil {
		return keys{}, err
	}
	chain, family, whole := []string{schema, own}, []string{schema, "family", own}, true
	for i, k := range inputs {
		chain = append(chain, in[i].Key)
		whole = whole && in[i].Key != ""
		if k.Chained {
			family = append(family, in[i].Key)
		}
	}
	k := keys{family: ops.Hash(family...)}
	if whole {
		k.alias = ops.Hash(append(chain, "alias")...)
		k.id = s.alias(k.alias)
	}
	if k.id != "" {
		return k, nil
	}
	parts := []string{schema, own}
	for i, dep := range inputs {
		if dep.Chained {
			parts = append(parts, "k", in[i].Key)
			continue
		}
		c, err := dep.Content()
		if err != nil {
			return keys{}, err
		}
		parts = append(parts, "c", c)
	}
	k.id = ops.Hash(parts...)
	return k, nil
}

// cached returns the outputs of a step whose record and layers are all there.
func (s *Solver) cached(k keys) []ops.Snapshot {
	r := s.read(k.id)
	if r == nil {
		return nil
	}
	out := make([]ops.Snapshot, len(r.Outputs))
	for i, o := range r.Outputs {
		for _, id := range o.Layers {
			if !s.host.Layers.Has(id) {
				return nil
			}
		}
		out[i] = ops.Snapshot{Key: o.Key, Layers: o.Layers}
	}
	now := time.Now()
	_ = os.Chtimes(s.path(k.id), now, now) // the collector takes the least recently used first
	return out
}

// read returns a record; one that is missing or damaged is none.
func (s *Solver) read(id string) *record {
	if id == "" {
		return nil
	}
	r := new(record)
	if store.Read(s.path(id), r) != nil {
		return nil
	}
	return r
}

func (s *Solver) path(id string) string {
	return filepath.Join(s.host.CacheDir, "keys", id[:2], id)
}

// remember records a step that ran, after its layers were published. The
// manifest goes with the family alone: it is large, and only the next copy of
// the same instruction asks for it.
func (s *Solver) remember(k keys, out []ops.Snapshot) error {
	r := record{Created: time.Now().UTC()}
	var manifest *ops.Manifest
	for _, o := range out {
		r.Outputs = append(r.Outputs, output{Key: o.Key, Layers: o.Layers})
		if o.Manifest != nil {
			manifest = o.Manifest
		}
	}
	if err := s.write(k.id, r); err != nil {
		return err
	}
	if k.alias != "" {
		a := record{Created: r.Created, Outputs: []output{{Key: k.id + "-0"}}}
		if err := s.write(k.alias, a); err != nil {
			return err
		}
	}
	if manifest == nil {
		return nil
	}
	r.Manifest = manifest
	return s.write(k.family, r)
}

func (s *Solver) write(id string, r record) error {
	p := s.path(id)
	if err := os.MkdirAll(filepath.Dir(p), 0o700); err != nil {
		return err
	}
	return store.WriteUnsynced(p, r)
}

// RecordLayers reads which layers a record of the cache leads to, whichever
// kind it is; false for what is no record.
func RecordLayers(path string) ([]string, bool) {
	r := new(record)
	if store.Read(path, r) == nil && len(r.Outputs) > 0 {
		var all []string
		for _, o := range r.Outputs {
			all = append(all, o.Layers...)
		}
		return all, true
	}
	var fetched struct {
		Layer string `json:"layer"`
	}
	if store.Read(path, &fetched) == nil && fetched.Layer != "" {
		return []string{fetched.Layer}, true
	}
	var id string
	if store.Read(path, &id) == nil && id != "" {
		return []string{id}, true
	}
	return nil, false
}
