package ops

import (
	"fmt"
	"os"

	mode "github.com/tonistiigi/dchapes-mode"
	"golang.org/x/sys/unix"
)

// symbolicMode reads a --chmod in chmod(1)'s symbols, such as u=rwX,go-w.
func symbolicMode(s string) (func(uint32) uint32, error) {
	set, err := mode.ParseWithUmask(s, 0)
	if err != nil {
		return nil, fmt.Errorf("--chmod %q: %w", s, err)
	}
	return func(m uint32) uint32 { return fromFileMode(set.Apply(toFileMode(m)), m) }, nil
}

var special = []struct {
	bit  uint32
	mode os.FileMode
}{{unix.S_ISUID, os.ModeSetuid}, {unix.S_ISGID, os.ModeSetgid}, {unix.S_ISVTX, os.ModeSticky}}

func toFileMode(m uint32) os.FileMode {
	f := os.FileMode(m & 0o777)
	if m&unix.S_IFMT == unix.S_IFDIR {
		f |= os.ModeDir
	}
	for _, s := range special {
		if m&s.bit != 0 {
			f |= s.mode
		}
	}
	return f
}

func fromFileMode(f os.FileMode, old uint32) uint32 {
	m := old&unix.S_IFMT | uint32(f.Perm())
	for _, s := range special {
		if f&s.mode != 0 {
			m |= s.bit
		}
	}
	return m
}
