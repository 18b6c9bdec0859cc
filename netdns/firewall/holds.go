package firewall

import (
	"errors"
	"fmt"
	"maps"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Holds says whether the table is what is wanted: every chain with as many
// rules, every set with the same elements. Two processes that watch the table
// would otherwise put it back in turns for ever, each taking the other's work
// for a stranger's.
func (t *Table) Holds(w Wanted) (bool, error) {
	conn, err := nftables.New() // never dialled: it only counts
	if err != nil {
		return false, fmt.Errorf("plan firewall table: %w", err)
	}
	plan := &Table{conn: conn, tag: t.tag, t: t.t, note: map[string]int{}}
	s := plan.sets()
	b, err := plan.queue(s, w)
	if err != nil {
		return false, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for chain, want := range plan.note {
		rules, err := t.conn.GetRules(t.t, &nftables.Chain{Name: chain, Table: t.t})
		if errors.Is(err, unix.ENOENT) || err == nil && len(rules) != want {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("look at chain %s: %w", chain, err)
		}
	}
	for _, set := range s.all() {
		have, err := t.conn.GetSetElements(set)
		if errors.Is(err, unix.ENOENT) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("look at set %s: %w", set.Name, err)
		}
		ports := set.IsMap && set.DataType.Name != nftables.TypeVerdict.Name
		if !maps.Equal(keys(have, ports), keys(b[set], ports)) {
			return false, nil
		}
	}
	return true, nil
}

// keys counts elements by what tells them apart: where they are and, for ports,
// where they lead.
func keys(elements []nftables.SetElement, ports bool) map[string]int {
	out := map[string]int{}
	for _, e := range elements {
		k := string(e.Key)
		if e.IntervalEnd {
			k += "|end"
		}
		if ports {
			k += "|" + string(e.Val)
		}
		out[k]++
	}
	return out
}
