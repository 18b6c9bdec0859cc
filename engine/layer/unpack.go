package layer

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/davit-run/davit/engine/store"
)

// A Staged layer is unpacked and digested, but not yet part of the store.
type Staged struct {
	Meta
	s   *Store
	dir *ingest
}

// Discard drops a staged layer that was not published.
func (st *Staged) Discard() { st.dir.discard() }

// Unpack makes a layer from an uncompressed tar: its id is the sha256 of the
// stream in hex, which image configurations call the diff id. Nothing of a
// layer that could not be unpacked wholly stays behind.
func (s *Store) Unpack(ctx context.Context, r io.Reader) (Meta, error) {
	st, err := s.Stage(ctx, r)
	if err != nil {
		return Meta{}, err
	}
	if err := s.Publish(st); err != nil {
		return Meta{}, err
	}
	return st.Meta, nil
}

// Stage unpacks a tar into the ingest directory and digests it. The caller
// compares the ID with what it expects, and then publishes or discards; so
// several layers unpack at once and share the one sync of Publish.
func (s *Store) Stage(ctx context.Context, r io.Reader) (*Staged, error) {
	g, err := s.newIngest()
	if err != nil {
		return nil, err
	}
	st := &Staged{s: s, dir: g}
	if err := st.fill(ctx, r); err != nil {
		g.discard()
		return nil, fmt.Errorf("unpack layer: %w", err)
	}
	return st, nil
}

// Publish brings staged layers to the disk, with one sync for all, and makes
// them part of the store. When it fails, those not published are discarded.
func (s *Store) Publish(staged ...*Staged) error {
	if len(staged) == 0 {
		return nil
	}
	err := syncfs(s.layout.Ingest())
	for _, st := range staged {
		if err == nil {
			err = s.publish(st.dir, st.Meta)
		}
		if err != nil {
			st.Discard()
		}
	}
	if err != nil {
		return err
	}
	return store.SyncDir(s.layout.Layers())
}

func (st *Staged) fill(ctx context.Context, r io.Reader) error {
	fs := filepath.Join(st.dir.path, "fs")
	if err := os.Mkdir(fs, 0o755); err != nil {
		return err
	}
	if err := os.Chmod(fs, 0o755); err != nil {
		return err
	}
	t, err := openTree(fs)
	if err != nil {
		return err
	}
	defer t.close()
	recipe, err := createRecipe(filepath.Join(st.dir.path, "recipe"))
	if err != nil {
		return err
	}
	src := newSource(ctx, r, recipe)
	u := &unpacker{tree: t, src: src, limits: st.s.Limits.fill(fs), recipe: recipe, buf: make([]byte, 256<<10)}
	err = u.run()
	if cerr := recipe.close(); err == nil {
		err = cerr
	}
	if err == nil && u.replaced {
		// Some content is gone: the tar can be made again, but not these bytes.
		err = os.Remove(filepath.Join(st.dir.path, "recipe"))
	}
	if err != nil {
		return err
	}
	id := src.digest()
	st.Meta = Meta{ID: id, DiffID: id, TarSize: src.n, Size: u.bytes, Entries: u.entries, Created: time.Now().UTC(), Skipped: u.skipped}
	return store.WriteUnsynced(filepath.Join(st.dir.path, "meta.json"), st.Meta)
}

// A source digests all that is read through it, and copies what is not the
// content of files into the recipe.
type source struct {
	ctx     context.Context
	r       *bufio.Reader
	sum     hash.Hash
	n       int64
	recipe  *recipeWriter
	content bool // a file's content is being read
}

func newSource(ctx context.Context, r io.Reader, recipe *recipeWriter) *source {
	return &source{ctx: ctx, r: bufio.NewReaderSize(r, 256<<10), sum: sha256.New(), recipe: recipe}
}

// Read implements io.Reader. A context that ended is an error at once.
func (s *source) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := s.r.Read(p)
	s.n += int64(n)
	if s.recipe == nil {
		return n, err
	}
	s.sum.Write(p[:n])
	if !s.content && n > 0 {
		s.recipe.literal(p[:n])
	}
	return n, err
}

func (s *source) digest() string { return hex.EncodeToString(s.sum.Sum(nil)) }

// An unpacker makes one layer's files.
type unpacker struct {
	tree    *tree
	src     *source
	tar     *tar.Reader
	limits  Limits
	recipe  *recipeWriter
	buf     []byte
	dirs    []dirTime
	entries int64
	bytes   int64
	sparse  int64
	skipped int64
	// replaced is true once something that an earlier entry made was taken
	// away by a later one.
	replaced bool
	into     *ExtractOptions // a tree in use is unpacked into; nil: a layer is made
}

// A dirTime is a directory's modification time, set when all is in it.
type dirTime struct {
	path string
	time time.Time
}

func (u *unpacker) run() error {
	u.tar = tar.NewReader(u.src)
	for {
		u.src.content = false
		h, err := u.tar.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return u.broken(err)
		}
		if u.entries++; u.entries > u.limits.Entries {
			return &LimitError{"entries", u.limits.Entries}
		}
		if err := u.entry(h); err != nil {
			return fmt.Errorf("entry %d %.200q: %w", u.entries, h.Name, err)
		}
	}
	if err := u.trailer(); err != nil {
		return err
	}
	return u.setDirTimes()
}

func (u *unpacker) broken(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the archive ends within entry %d, after %d bytes: %w", u.entries+1, u.src.n, err)
	}
	return fmt.Errorf("after entry %d, at byte %d: %w", u.entries, u.src.n, err)
}

// trailer reads what follows the end of the archive: it belongs to the
// digest. An empty stream is not a layer, but an archive without the two
// closing blocks is one (several tools write it).
func (u *unpacker) trailer() error {
	if u.src.n == 0 {
		return errors.New("the archive is empty")
	}
	if u.src.n%512 != 0 {
		return u.broken(io.ErrUnexpectedEOF)
	}
	for padding := 0; ; {
		n, err := u.src.Read(u.buf)
		if len(bytes.TrimLeft(u.buf[:n], "\x00")) > 0 {
			return fmt.Errorf("data after the end of the archive, at byte %d", u.src.n)
		}
		if padding += n; padding > maxPadding {
			return &LimitError{"bytes of padding", maxPadding}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
