package sandbox

import (
	"errors"

	"github.com/vishvananda/netlink"
)

// mostDumps is how often a dump is begun anew before what the last one said has
// to do: on a router whose routes never rest no dump may come through.
const mostDumps = 100

// Whole repeats a dump that somebody's change interrupted: what it lacks would be
// taken for gone. See NLM_F_DUMP_INTR in the kernel's netlink/intro.rst.
func Whole[T any](dump func() ([]T, error)) (all []T, err error) {
	for range mostDumps {
		if all, err = dump(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
	}
	return all, nil
}
