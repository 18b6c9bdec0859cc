package scan

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/store"
)

// tick is how far apart two writes may lie and still leave the same time on a
// file: the kernel stamps files with its coarse clock, at worst 100 Hz.
const tick = 20 * time.Millisecond

// cacheHead names the format; a file with another first line is not read.
const cacheHead = "davit stat cache 1\n"

// A StatCache remembers the digests of files by what stat(2) says of them:
// path, inode, size, times and mode. A file whose times are within one tick of
// the moment from which it was hashed may have changed since without a trace, and
// is not remembered. A nil cache remembers nothing.
type StatCache struct {
	path string

	mu    sync.Mutex
	known map[string]stamped
	dirty bool
}

type stamped struct{ stamp, digest string }

// OpenStatCache reads the cache of the context directory dir from the cache
// directory below; a damaged cache is an empty one.
func OpenStatCache(below, dir string) *StatCache {
	sum := sha256.Sum256([]byte(dir))
	c := &StatCache{path: filepath.Join(below, "stat", hex.EncodeToString(sum[:16])), known: make(map[string]stamped)}
	f, err := os.Open(c.path)
	if err != nil {
		return c
	}
	defer f.Close()
	c.read(bufio.NewReaderSize(f, 256<<10))
	return c
}

func (c *StatCache) read(r *bufio.Reader) {
	if head, err := r.ReadString('\n'); err != nil || head != cacheHead {
		return
	}
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		f := strings.SplitN(strings.TrimSuffix(line, "\n"), "\t", 3)
		if len(f) != 3 || len(f[1]) != sha256.Size*2 {
			return
		}
		name, err := strconv.Unquote(f[2])
		if err != nil {
			return
		}
		c.known[name] = stamped{f[0], f[1]}
	}
}

func stamp(e Entry) string {
	b := make([]byte, 0, 96)
	for _, v := range []int64{int64(e.Dev), int64(e.Ino), e.Size, e.MTime.Nano(), e.CTime.Nano(), int64(e.Mode)} {
		b = strconv.AppendInt(b, v, 36)
		b = append(b, ' ')
	}
	return string(b)
}

func (c *StatCache) get(e Entry) (string, bool) {
	if c == nil {
		return "", false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.known[e.Path]
	if !ok || k.stamp != stamp(e) {
		return "", false
	}
	return k.digest, true
}

// put remembers the digest of a file that was read from the moment begin on,
// unless it changed meanwhile or may have done so unseen.
func (c *StatCache) put(e Entry, f *os.File, digest string, begin time.Time) {
	if c == nil {
		return
	}
	var st unix.Stat_t
	if unix.Fstat(int(f.Fd()), &st) != nil || stamp(entry(e.Path, st)) != stamp(e) {
		return
	}
	racy := begin.Add(-tick).UnixNano()
	if e.MTime.Nano() >= racy || e.CTime.Nano() >= racy {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known[e.Path] = stamped{stamp(e), digest}
	c.dirty = true
}

// Save writes the cache when it learned something.
func (c *StatCache) Save() error {
	if c == nil || !c.dirty {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	b.WriteString(cacheHead)
	for name, k := range c.known {
		fmt.Fprintf(&b, "%s\t%s\t%s\n", k.stamp, k.digest, strconv.Quote(name))
	}
	if err := os.MkdirAll(filepath.Dir(c.path), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	c.dirty = false
	return store.WriteFile(c.path, []byte(b.String()), 0o600)
}
