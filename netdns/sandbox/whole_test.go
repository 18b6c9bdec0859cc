package sandbox

import (
	"errors"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestInterruptedDumpsAreRepeated(t *testing.T) {
	gone := errors.New("gone")
	for what, c := range map[string]struct {
		interrupted int // so often
		end         error
		want        []int
		err         error
	}{
		"whole at once":        {0, nil, []int{0}, nil},
		"interrupted twice":    {2, nil, []int{2}, nil},
		"an error is an error": {1, gone, []int{1}, gone},
		"never whole":          {1 << 30, nil, []int{mostDumps - 1}, nil},
	} {
		tries := 0
		got, err := Whole(func() ([]int, error) {
			defer func() { tries++ }()
			if tries < c.interrupted {
				return []int{tries}, netlink.ErrDumpInterrupted
			}
			return []int{tries}, c.end
		})
		if !slices.Equal(got, c.want) || !errors.Is(err, c.err) {
			t.Errorf("%s: got %v, %v, want %v, %v", what, got, err, c.want, c.err)
		}
	}
}
