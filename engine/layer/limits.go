package layer

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Limits bound what one layer may ask of the disk, so that a bomb is an error
// and not a full disk. A zero field means the default beside it.
type Limits struct {
	Entries int64 // tar entries: 2 million
	Bytes   int64 // bytes of data written: 32 GiB, or 95 % of what is free
	Sparse  int64 // logical bytes of sparse files, holes included: 256 GiB
	Path    int   // bytes of one path or link target: 4,095, what Linux can open
	Xattr   int   // bytes of one entry's extended attributes, names included: 64 KiB
	PAX     int   // bytes of one entry's PAX records: 1 MiB

	space bool // Bytes is what is free on the disk
}

const (
	maxEntries = 2_000_000
	maxBytes   = 32 << 30
	maxSparse  = 256 << 30
	maxPath    = 4095
	maxXattr   = 64 << 10
	maxPAX     = 1 << 20
	maxPadding = 64 << 20 // zeros after the end; tar's own blocks are 10 KiB
)

// fill puts defaults in place of zeros; dir is where the layer will lie.
func (l Limits) fill(dir string) Limits {
	if l.Entries == 0 {
		l.Entries = maxEntries
	}
	if l.Bytes == 0 {
		l.Bytes = free(dir)
		l.space = l.Bytes < maxBytes
		l.Bytes = min(l.Bytes, maxBytes)
	}
	if l.Sparse == 0 {
		l.Sparse = maxSparse
	}
	if l.Path == 0 {
		l.Path = maxPath
	}
	if l.Xattr == 0 {
		l.Xattr = maxXattr
	}
	if l.PAX == 0 {
		l.PAX = maxPAX
	}
	return l
}

// free is 95 % of the bytes that dir's filesystem still has for us.
func free(dir string) int64 {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return maxBytes
	}
	return int64(st.Bavail) * st.Bsize / 100 * 95
}

// tooLarge is the error of a layer that passes the limit on bytes.
func (l Limits) tooLarge() error {
	if l.space {
		return fmt.Errorf("the layer needs more than the %d bytes that are free: %w", l.Bytes, unix.ENOSPC)
	}
	return &LimitError{"bytes", l.Bytes}
}

// A LimitError says which of the Limits a layer passes.
type LimitError struct {
	What  string // such as "entries"
	Limit int64
}

// Error names the limit and its value.
func (e *LimitError) Error() string {
	return fmt.Sprintf("more than %d %s: refused as a possible archive bomb", e.Limit, e.What)
}
