// Package start runs before the libraries that davit links set themselves up:
// it imports nothing of theirs, and Go initialises what is ready in the order
// of import paths.
//
// Most commands end within milliseconds. Until one has shown that it does not,
// its garbage is left where it is: collecting that of the libraries' tables
// alone takes a tenth of the time of davit version.
package start

import (
	"runtime/debug"
	"time"
)

const (
	// patience is how long a command counts as a short one.
	patience = time.Second
	// limit is the memory, in bytes, at which garbage is collected all the same.
	limit = 192 << 20
	usual = 100 // percent of growth between collections afterwards
)

func init() {
	debug.SetGCPercent(-1)
	was := debug.SetMemoryLimit(limit)
	time.AfterFunc(patience, func() {
		debug.SetGCPercent(usual)
		debug.SetMemoryLimit(was)
	})
}
