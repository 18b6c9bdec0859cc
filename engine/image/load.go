package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/layer"
)

// A found image is one of an archive: its configuration, its names, and the
// entries that hold its layers, lowest first.
type found struct {
	config   []byte
	manifest []byte
	digest   string
	names    []string
	layers   []string
}

// Load takes in an image archive: what docker save wrote, of any age, or an
// OCI layout in a tar, whole or compressed, from a file or a stream. Layers
// that are there already are not unpacked again. When anything is wrong, the
// error names the entry and nothing has changed.
func (s *Store) Load(ctx context.Context, r io.Reader) ([]engine.Image, error) {
	hold, err := s.layers.Hold(ctx)
	if err != nil {
		return nil, fmt.Errorf("load image: %w", err)
	}
	defer hold.Release()
	a, err := readArchive(ctx, s.layers, r)
	if err != nil {
		return nil, fmt.Errorf("load image: %w", err)
	}
	defer a.discard()
	images, err := a.images()
	if err != nil {
		return nil, fmt.Errorf("load image: %w", err)
	}
	parsed, err := a.takeLayers(images)
	if err != nil {
		return nil, fmt.Errorf("load image: %w", err)
	}
	for i, f := range images {
		if parsed[i], err = s.Put(parsed[i], f.config, f.manifest, f.names...); err != nil {
			return nil, fmt.Errorf("load image: %w", err)
		}
	}
	return parsed, nil
}

// images finds what the archive holds, by the newest format that it speaks.
func (a *archive) images() ([]found, error) {
	if _, ok := a.json["manifest.json"]; ok {
		return a.dockerImages()
	}
	if _, ok := a.json["index.json"]; ok {
		return a.ociImages()
	}
	if _, ok := a.json["repositories"]; ok {
		return a.legacyImages()
	}
	return nil, errors.New("the archive has neither manifest.json nor index.json: it is not an image archive, or was cut short (for a root file system use: davit image import)")
}

// dockerImages reads manifest.json (docker save since 1.10).
func (a *archive) dockerImages() ([]found, error) {
	var list []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	if err := json.Unmarshal(a.json["manifest.json"], &list); err != nil {
		return nil, fmt.Errorf("manifest.json: %w", err)
	}
	digests := a.manifestDigests()
	var all []found
	for _, m := range list {
		config, err := a.file(m.Config)
		if err != nil {
			return nil, err
		}
		if err := matchesName(m.Config, config); err != nil {
			return nil, err
		}
		f := found{config: config, names: m.RepoTags, layers: m.Layers}
		if d, ok := digests[digestOf(config)]; ok {
			f.digest, f.manifest = d, a.json[blobPath(d)]
		}
		all = append(all, f)
	}
	return all, nil
}

// matchesName holds the digest of a file against its name, when that is one.
func matchesName(name string, content []byte) error {
	hex := strings.TrimSuffix(path.Base(name), ".json")
	if len(hex) != 64 || !isHex(hex) {
		return nil
	}
	if got := digestOf(content); got != "sha256:"+hex {
		return fmt.Errorf("%q has the digest %s: the archive is damaged", name, got)
	}
	return nil
}

func blobPath(digest string) string {
	return "blobs/sha256/" + strings.TrimPrefix(digest, "sha256:")
}

// manifestDigests finds the manifests' digests by configuration, in an
// archive that speaks both formats.
func (a *archive) manifestDigests() map[string]string {
	all := map[string]string{}
	images, err := a.ociImages()
	if err != nil {
		return all
	}
	for _, f := range images {
		all[digestOf(f.config)] = f.digest
	}
	return all
}

// ociImages reads index.json (image-spec image-layout.md).
func (a *archive) ociImages() ([]found, error) {
	index, err := ParseManifest(a.json["index.json"], "")
	if err != nil {
		return nil, fmt.Errorf("index.json: %w", err)
	}
	if !index.IsIndex() {
		return nil, errors.New("index.json: not an index")
	}
	var all []found
	for _, d := range index.Manifests {
		if d.Annotations["vnd.docker.reference.type"] != "" {
			continue
		}
		f, err := a.ociImage(d, 0)
		if err != nil {
			return nil, err
		}
		f.names = annotatedNames(d.Annotations)
		all = merge(all, f)
	}
	if len(all) == 0 {
		return nil, errors.New("index.json: it names no image")
	}
	return all, nil
}

// merge keeps one found image for each manifest, with all its names.
func merge(all []found, f found) []found {
	for i := range all {
		if all[i].digest == f.digest {
			all[i].names = append(all[i].names, f.names...)
			return all
		}
	}
	return append(all, f)
}

// annotatedNames are an image's names in an OCI layout. A reference name is
// often only a tag, which names nothing by itself.
func annotatedNames(a map[string]string) []string {
	if n := a["io.containerd.image.name"]; n != "" {
		return []string{n}
	}
	n := a["org.opencontainers.image.ref.name"]
	if strings.ContainsAny(n, ":/") {
		return []string{n}
	}
	return nil
}

func (a *archive) ociImage(d Descriptor, depth int) (found, error) {
	var f found
	if depth > 4 {
		return f, errors.New("index.json: indexes nested too deeply")
	}
	b, err := a.blob(d)
	if err != nil {
		return f, err
	}
	m, err := ParseManifest(b, d.MediaType)
	if err != nil {
		return f, fmt.Errorf("%s: %w", d.Digest, err)
	}
	if m.IsIndex() {
		if d, err = m.Choose(""); err != nil {
			return f, err
		}
		return a.ociImage(d, depth+1)
	}
	f.digest, f.manifest = d.Digest, b
	if f.config, err = a.blob(*m.Config); err != nil {
		return f, err
	}
	for _, l := range m.Layers {
		f.layers = append(f.layers, blobPath(l.Digest))
	}
	return f, nil
}

// blob returns a small blob, having checked its size and digest.
func (a *archive) blob(d Descriptor) ([]byte, error) {
	if !isDigest(d.Digest) {
		return nil, fmt.Errorf("%.80q is not a sha256 digest", d.Digest)
	}
	b, err := a.file(blobPath(d.Digest))
	if err != nil {
		return nil, err
	}
	if d.Size != int64(len(b)) {
		return nil, fmt.Errorf("%s has %d bytes, not %d: the archive is damaged", blobPath(d.Digest), len(b), d.Size)
	}
	return b, matchesName(blobPath(d.Digest), b)
}

// takeLayers makes every layer of the images part of the store, those of a
// file side by side, and holds each against the diff id of the configuration.
func (a *archive) takeLayers(images []found) ([]engine.Image, error) {
	wanted := map[string]string{} // entry by diff id
	var parsed []engine.Image
	for _, f := range images {
		img, err := Parse(f.config)
		if err != nil {
			return nil, err
		}
		if len(img.DiffIDs) != len(f.layers) {
			return nil, fmt.Errorf("image %s: its configuration has %d layers, the archive %d", img.ID, len(img.DiffIDs), len(f.layers))
		}
		for i, entry := range f.layers {
			wanted[img.Layers[i]] = entry
		}
		img.Digest = f.digest
		parsed = append(parsed, img)
	}
	ready, err := a.stageAll(wanted)
	if err == nil {
		err = a.layers.Publish(ready...)
	} else {
		discardAll(ready)
	}
	if err != nil {
		return nil, err
	}
	return parsed, a.sum(parsed)
}

func discardAll(staged []*layer.Staged) {
	for _, st := range staged {
		st.Discard()
	}
}

// sum counts the bytes of each image's layers.
func (a *archive) sum(images []engine.Image) (err error) {
	for i := range images {
		if images[i].Size, err = a.layers.Sum(images[i].Layers); err != nil {
			return err
		}
	}
	return nil
}

// stageAll returns the layers that were not there, staged and verified.
func (a *archive) stageAll(wanted map[string]string) ([]*layer.Staged, error) {
	var (
		mu    sync.Mutex
		wg    sync.WaitGroup
		ready []*layer.Staged
		first error
	)
	ctx, cancel := context.WithCancel(a.ctx)
	defer cancel()
	slots := make(chan struct{}, runtime.GOMAXPROCS(0)+1)
	for _, id := range slices.Sorted(maps.Keys(wanted)) {
		if a.layers.Has(id) {
			continue
		}
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			st, err := a.stageOne(ctx, id, wanted[id])
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				ready = append(ready, st)
			} else if first == nil {
				first = err
				cancel()
			}
		})
	}
	wg.Wait()
	return ready, first
}

func (a *archive) stageOne(ctx context.Context, id, entry string) (*layer.Staged, error) {
	p, err := a.part(entry)
	if err != nil {
		return nil, err
	}
	st := p.staged
	if st == nil {
		if st, err = stage(ctx, a.layers, p.open()); err != nil {
			return nil, fmt.Errorf("layer %q: %w", entry, err)
		}
	}
	if st.ID != id {
		st.Discard()
		return nil, fmt.Errorf("layer %q has the digest sha256:%s, not sha256:%s: the archive is damaged", entry, st.ID, id)
	}
	return st, nil
}
