package images

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// A Cache holds one uncompressed tar per image layer, and beside it a note of
// what it was made from and what its checksum is.
type Cache struct{ dir string }

// Open returns the cache at dir or, when that is empty, at the user's own
// place: $DAVIT_IMAGE_CACHE, else davit/images in the XDG cache directory.
func Open(dir string) (*Cache, error) {
	if dir == "" {
		dir = os.Getenv("DAVIT_IMAGE_CACHE")
	}
	if dir == "" {
		base, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("find cache: %w", err)
		}
		dir = filepath.Join(base, "davit", "images")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("make cache: %w", err)
	}
	return &Cache{dir}, nil
}

// Ready opens the user's own cache and makes what is missing of the named images
// (none named: of all). One line per image is written to out.
func Ready(ctx context.Context, out io.Writer, names ...string) (*Cache, []Image, error) {
	c, err := Open("")
	if err != nil {
		return nil, nil, err
	}
	ims, err := Find(names...)
	if err != nil {
		return nil, nil, err
	}
	return c, ims, c.Make(ctx, out, ims...)
}

// A layer is the note beside a cached tar.
type layer struct {
	From   string    `json:"from"`   // digest of recipe and base: another one makes the layer stale
	DiffID string    `json:"diffID"` // sha256 of the tar, in hex
	Made   time.Time `json:"made"`
}

// Dir is where the cache is.
func (c *Cache) Dir() string { return c.dir }

func (c *Cache) tar(name string) string  { return filepath.Join(c.dir, name+".tar") }
func (c *Cache) note(name string) string { return filepath.Join(c.dir, name+".json") }

// Make makes what is missing, stale or damaged of the given images and of
// those they stand on, and writes one line per image to out. One Make runs at
// a time.
func (c *Cache) Make(ctx context.Context, out io.Writer, ims ...Image) error {
	unlock, err := c.lock()
	if err != nil {
		return err
	}
	defer unlock()
	work, err := os.MkdirTemp(c.dir, "work-")
	if err != nil {
		return fmt.Errorf("make work directory: %w", err)
	}
	defer os.RemoveAll(work)
	if err := os.Chmod(work, 0o755); err != nil {
		return err
	}
	logFile, err := os.Create(filepath.Join(c.dir, "build.log"))
	if err != nil {
		return fmt.Errorf("make log: %w", err)
	}
	defer logFile.Close()
	b := &builder{ctx: ctx, cache: c, log: logFile, work: work}
	return b.makeAll(out, withBases(ims))
}

// makeAll checks all images at once, since that is nearly all a second run
// does, and then makes what is not good, in order.
func (b *builder) makeAll(out io.Writer, ims []Image) error {
	good := make([]bool, len(ims))
	var g errgroup.Group
	for i, im := range ims {
		g.Go(func() error {
			_, err := b.cache.check(im)
			good[i] = err == nil
			return nil
		})
	}
	_ = g.Wait()
	for i, im := range ims {
		if good[i] {
			if _, err := b.cache.current(im); err == nil {
				continue
			}
		}
		start := time.Now()
		fmt.Fprintf(out, "image %s: making it from Debian packages\n", im.Tags[0])
		if err := b.makeOne(im); err != nil {
			return fmt.Errorf("%w (see %s)", err, filepath.Join(b.cache.dir, "build.log"))
		}
		fmt.Fprintf(out, "image %s: made in %.1f s\n", im.Tags[0], time.Since(start).Seconds())
	}
	return nil
}

func (b *builder) makeOne(im Image) error {
	if err := im.make(b, im); err != nil {
		return err
	}
	from, err := b.cache.from(im)
	if err != nil {
		return err
	}
	tmp := filepath.Join(b.work, im.Name+".tar")
	id, err := writeLayer(tmp, filepath.Join(b.work, im.Name, "layer"))
	if err != nil {
		return fmt.Errorf("write layer of %s: %w", im.Name, err)
	}
	_ = os.Remove(b.cache.note(im.Name))
	if err := os.Rename(tmp, b.cache.tar(im.Name)); err != nil {
		return err
	}
	note, err := json.Marshal(layer{From: from, DiffID: id, Made: time.Now().UTC().Truncate(time.Second)})
	if err != nil {
		return err
	}
	return os.WriteFile(b.cache.note(im.Name), note, 0o644)
}

// from digests what an image's layer is made from.
func (c *Cache) from(im Image) (string, error) {
	script, err := im.recipe()
	if err != nil {
		return "", err
	}
	h := sha256.New()
	io.WriteString(h, script)
	if im.Base != "" {
		l, err := c.read(im.Base)
		if err != nil {
			return "", err
		}
		io.WriteString(h, l.DiffID)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func (c *Cache) read(name string) (layer, error) {
	var l layer
	b, err := os.ReadFile(c.note(name))
	if err != nil {
		return l, err
	}
	return l, json.Unmarshal(b, &l)
}

// ErrStale means that a cached layer was made from another recipe or base.
var ErrStale = errors.New("made from something else")

// current says whether the note of an image's layer is that of today's recipe.
func (c *Cache) current(im Image) (layer, error) {
	l, err := c.read(im.Name)
	if err != nil {
		return l, err
	}
	from, err := c.from(im)
	if err == nil && from != l.From {
		err = fmt.Errorf("layer of %s: %w", im.Name, ErrStale)
	}
	return l, err
}

// check is current, and reads the whole layer to see that it is undamaged.
func (c *Cache) check(im Image) (layer, error) {
	l, err := c.current(im)
	if err != nil {
		return l, err
	}
	f, err := os.Open(c.tar(im.Name))
	if err != nil {
		return l, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.CopyBuffer(h, f, make([]byte, 1<<20)); err != nil {
		return l, err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != l.DiffID {
		return l, fmt.Errorf("layer of %s: damaged: digest %s, want %s", im.Name, got, l.DiffID)
	}
	return l, nil
}

func (c *Cache) lock() (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(c.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("lock cache: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock cache: %w", err)
	}
	return func() { f.Close() }, nil
}

// withBases adds the images that the given ones stand on, in the order of All.
func withBases(ims []Image) []Image {
	want := map[string]bool{}
	for _, im := range ims {
		want[im.Name] = true
		if im.Base != "" {
			want[im.Base] = true
		}
	}
	var all []Image
	for _, im := range All() {
		if want[im.Name] {
			all = append(all, im)
		}
	}
	return all
}
