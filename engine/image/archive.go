package image

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/davit-run/davit/engine/layer"
)

// Bounds of what an image archive may hold besides layers.
const (
	maxJSON     = 64 << 20 // bytes of all its JSON together
	maxArchived = 100_000  // entries
)

// An archive is what was found in an image archive: its JSON files, where its
// layers are, and links between its entries (older Dockers link equal layers).
type archive struct {
	ctx    context.Context
	layers *layer.Store
	json   map[string][]byte
	size   int64 // of all json
	parts  map[string]*part
	links  map[string]string
}

// A part is one entry that looks like a layer: still to be read at its offset
// of a file, or staged already because the archive is a stream.
type part struct {
	file   io.ReaderAt
	offset int64
	size   int64
	staged *layer.Staged
}

// open returns the bytes of a part that is still to be read.
func (p *part) open() io.Reader { return io.NewSectionReader(p.file, p.offset, p.size) }

// readArchive takes in a whole archive. Layers of a plain file on disk are
// only noted, so that they can be unpacked side by side and only if needed;
// those of a stream are staged as they come.
func readArchive(ctx context.Context, layers *layer.Store, r io.Reader) (*archive, error) {
	a := &archive{ctx: ctx, layers: layers, json: map[string][]byte{}, parts: map[string]*part{}, links: map[string]string{}}
	file, plain := plainFile(r)
	if !plain {
		z, err := Decompress(r)
		if err != nil {
			return nil, fmt.Errorf("read archive: %w", err)
		}
		defer z.Close()
		r, file = z, nil
	}
	if err := a.read(r, file); err != nil {
		a.discard()
		return nil, fmt.Errorf("read archive: %w", err)
	}
	return a, nil
}

// plainFile tells whether r is a regular file that is not compressed, and can
// so be read at any offset.
func plainFile(r io.Reader) (*os.File, bool) {
	f, ok := r.(*os.File)
	if !ok {
		return nil, false
	}
	st, err := f.Stat()
	if err != nil || !st.Mode().IsRegular() {
		return nil, false
	}
	at, err := f.Seek(0, io.SeekCurrent)
	if err != nil {
		return nil, false
	}
	var head [512]byte
	n, _ := f.ReadAt(head[:], at)
	return f, isTar(head[:n])
}

func isTar(head []byte) bool { return len(head) >= 262 && string(head[257:262]) == "ustar" }

func (a *archive) read(r io.Reader, file *os.File) error {
	t := tar.NewReader(r)
	for n := 0; ; n++ {
		h, err := t.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return a.broken(n, err)
		}
		if n > maxArchived {
			return fmt.Errorf("more than %d entries: not an image archive", maxArchived)
		}
		if err := a.ctx.Err(); err != nil {
			return err
		}
		name := path.Clean(strings.TrimPrefix(h.Name, "/"))
		switch h.Typeflag {
		case tar.TypeReg:
			err = a.entry(name, h.Size, t, file)
		case tar.TypeSymlink:
			a.links[name] = path.Join(path.Dir(name), h.Linkname)
		case tar.TypeLink:
			a.links[name] = path.Clean(strings.TrimPrefix(h.Linkname, "/"))
		}
		if err != nil {
			return fmt.Errorf("entry %q: %w", name, err)
		}
	}
}

func (a *archive) broken(n int, err error) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("it ends in the middle, after %d entries: it was cut short", n)
	case errors.Is(err, tar.ErrHeader) && n == 0:
		return errors.New("not a tar archive, nor one compressed with gzip or zstd")
	}
	return fmt.Errorf("after %d entries: %w", n, err)
}

// entry takes in one file, by what it looks like: names differ between the
// formats (x/layer.tar, blobs/sha256/…, x.tar), beginnings do not.
func (a *archive) entry(name string, size int64, r io.Reader, file *os.File) error {
	var buf [512]byte
	n, err := io.ReadFull(r, buf[:min(size, 512)])
	if err != nil {
		return cut(err)
	}
	head := buf[:n]
	if file != nil && looksLikeLayer(name, head) {
		at, err := file.Seek(0, io.SeekCurrent)
		a.parts[name] = &part{file: file, offset: at - int64(n), size: size}
		return err
	}
	body := io.MultiReader(bytes.NewReader(head), r)
	if looksLikeLayer(name, head) {
		return a.stage(name, body)
	}
	if size > MaxConfig || a.size+size > maxJSON {
		if name == "manifest.json" || name == "index.json" {
			return fmt.Errorf("larger than %d bytes", MaxConfig)
		}
		return nil // something we shall not need: an attestation, a signature
	}
	a.size += size
	b, err := io.ReadAll(body)
	a.json[name] = b
	return cut(err)
}

func cut(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return errors.New("the archive ends within it: it was cut short")
	}
	return err
}

func looksLikeLayer(name string, head []byte) bool {
	switch {
	case strings.HasSuffix(name, ".tar"):
		return true
	case isTar(head), bytes.HasPrefix(head, []byte{0x1f, 0x8b}), bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}), skippable(head):
		return true
	}
	// A layer without entries is nothing but zeros.
	return len(head) == 512 && len(bytes.Trim(head, "\x00")) == 0
}

func (a *archive) stage(name string, r io.Reader) error {
	st, err := stage(a.ctx, a.layers, r)
	if err != nil {
		return err
	}
	a.parts[name] = &part{staged: st}
	return nil
}

// stage unpacks one layer, compressed or not.
func stage(ctx context.Context, layers *layer.Store, r io.Reader) (*layer.Staged, error) {
	z, err := Decompress(r)
	if err != nil {
		return nil, err
	}
	defer z.Close()
	return layers.Stage(ctx, z)
}

// follow finds the entry that a name means, through links.
func (a *archive) follow(name string) string {
	name = path.Clean(strings.TrimPrefix(name, "/"))
	for range 8 {
		target, ok := a.links[name]
		if !ok {
			break
		}
		name = target
	}
	return name
}

func (a *archive) file(name string) ([]byte, error) {
	b, ok := a.json[a.follow(name)]
	if !ok {
		return nil, fmt.Errorf("%q is missing from the archive: it is damaged or was cut short", name)
	}
	return b, nil
}

func (a *archive) part(name string) (*part, error) {
	p, ok := a.parts[a.follow(name)]
	if !ok {
		return nil, fmt.Errorf("layer %q is missing from the archive: it is damaged or was cut short", name)
	}
	return p, nil
}

func (a *archive) discard() {
	for _, p := range a.parts {
		if p.staged != nil {
			p.staged.Discard()
		}
	}
}
