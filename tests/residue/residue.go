package residue

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"
)

// A Kind is one of the things that are counted.
type Kind string

// The thirteen kinds.
const (
	Mounts     Kind = "mounts"
	Namespaces Kind = "network namespaces"
	Links      Kind = "links"
	Firewall   Kind = "nft objects"
	Cgroups    Kind = "cgroups"
	Leases     Kind = "address leases"
	Sockets    Kind = "sockets and locks"
	WorkDirs   Kind = "work directories"
	Blobs      Kind = "temporary blobs"
	Loops      Kind = "loop devices"
	Processes  Kind = "processes"
	Ports      Kind = "listening ports"
	Sysctls    Kind = "sysctls"
)

// A Place is where one davit works, and so whose things are counted.
type Place struct {
	// Root is the directory that DAVIT_ROOT names; never empty.
	Root string
	// Projects, when given, limit cgroups to those of these projects: for
	// tests beside which other projects come and go.
	Projects []string
}

// A Snapshot is what there was at one moment, by kind. Links, nft objects,
// ports and sysctls are those of the calling thread's network namespace.
type Snapshot map[Kind][]string

// Take counts everything. A kind that cannot be looked at is an error: what
// was not seen was not counted.
func (p Place) Take() (Snapshot, error) {
	s := Snapshot{}
	for _, look := range []func(Place, Snapshot) error{processes, links, firewall, cgroups, disk, loops, ports, sysctls} {
		if err := look(p, s); err != nil {
			return nil, err
		}
	}
	for k := range s {
		slices.Sort(s[k])
		s[k] = slices.Compact(s[k])
	}
	return s, nil
}

// Since returns one line for everything that s has and before had not, and for
// everything that before had and s has not; none when nothing changed.
func (s Snapshot) Since(before Snapshot) []string {
	kinds := maps.Clone(s)
	maps.Copy(kinds, before)
	var lines []string
	for _, k := range slices.Sorted(maps.Keys(kinds)) {
		for _, v := range missing(s[k], before[k]) {
			lines = append(lines, fmt.Sprintf("%s: + %s", k, v))
		}
		for _, v := range missing(before[k], s[k]) {
			lines = append(lines, fmt.Sprintf("%s: - %s", k, v))
		}
	}
	return lines
}

// missing returns what a has and b has not.
func missing(a, b []string) []string {
	var out []string
	for _, v := range a {
		if _, ok := slices.BinarySearch(b, v); !ok {
			out = append(out, v)
		}
	}
	return out
}

// Settle is how long Wait gives the kernel and the last davit process to
// finish what they do off the critical path, such as lazy unmounts.
const Settle = time.Minute

// Wait returns the difference to before as soon as there is none, or the last
// one seen when Settle has passed. What goes while it is being looked at makes
// that look fail, and so it looks again.
func (p Place) Wait(before Snapshot) (diff []string, err error) {
	deadline := time.Now().Add(Settle)
	for wait := 2 * time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		now, err := p.Take()
		if err == nil {
			diff = now.Since(before)
		}
		if err == nil && len(diff) == 0 || time.Now().After(deadline) {
			return diff, err
		}
		time.Sleep(wait)
	}
}

// Around counts now and again when the test is over, after the clean-ups that
// the test registers later, and fails the test for what was left behind.
func (p Place) Around(t testing.TB) {
	t.Helper()
	before, err := p.Take()
	if err != nil {
		t.Fatalf("count residue before: %v", err)
	}
	t.Cleanup(func() {
		diff, err := p.Wait(before)
		if err != nil {
			t.Errorf("count residue after: %v", err)
		}
		if len(diff) > 0 {
			t.Errorf("left behind:\n  %s", strings.Join(diff, "\n  "))
		}
	})
}
