package scan

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"io"
	"maps"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

// Hash returns the sha256 of what r holds, in hex, and its length in bytes.
func Hash(r io.Reader) (string, int64, error) {
	h := sha256.New()
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	// The wrapper hides File.WriteTo, which would allocate a buffer of its own.
	n, err := io.CopyBuffer(h, struct{ io.Reader }{r}, *buf)
	if err != nil {
		return "", n, err
	}
	return hex.EncodeToString(h.Sum(nil)), n, nil
}

// Fingerprint is a digest of everything about an entry that its name does not
// say: type and permissions, owner, size, link, device, extended attributes
// and content; never times. content is the sha256 of a regular file's bytes.
func Fingerprint(e Entry, content string) []byte {
	h := sha256.New()
	writeEntry(h, e, content)
	return h.Sum(nil)
}

func writeEntry(h hash.Hash, e Entry, content string) {
	size := e.Size
	if e.IsDir() {
		size = 0
	}
	rdev := e.Rdev
	if t := e.Mode & unix.S_IFMT; t != unix.S_IFBLK && t != unix.S_IFCHR {
		rdev = 0
	}
	var fixed [40]byte
	for i, v := range []uint64{uint64(e.Mode), uint64(e.UID), uint64(e.GID), uint64(size), rdev} {
		binary.BigEndian.PutUint64(fixed[i*8:], v)
	}
	h.Write(fixed[:])
	writeString(h, e.Link)
	writeString(h, content)
	for _, k := range slices.Sorted(maps.Keys(e.Xattrs)) {
		writeString(h, k)
		writeString(h, e.Xattrs[k])
	}
}

func writeString(h hash.Hash, s string) {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(s)))
	h.Write(n[:])
	io.WriteString(h, s)
}

// Digests computes the content digests of the regular files among entries, on
// up to workers files at once; the others' are empty.
func Digests(t Tree, entries []Entry, workers int) ([]string, error) {
	out := make([]string, len(entries))
	errs := make([]error, workers)
	next := make(chan int)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range next {
				if errs[w] == nil {
					out[i], errs[w] = t.Digest(entries[i])
				}
			}
		}()
	}
	for i, e := range entries {
		if e.IsRegular() {
			next <- i
		}
	}
	close(next)
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}
