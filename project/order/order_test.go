package order

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/davit-run/davit/tests/kernel"
)

func TestSort(t *testing.T) {
	for name, c := range map[string]struct {
		needs map[string][]string
		want  string
	}{
		"nothing":                        {nil, "[]"},
		"needs come first":               {map[string][]string{"a": {"c"}, "b": nil, "c": {"b"}}, "[b c a]"},
		"unknown needs are left out":     {map[string][]string{"a": {"x"}}, "[a]"},
		"a cycle by name":                {map[string][]string{"a": {"b"}, "b": {"c"}, "c": {"b"}}, "dependency cycle: b -> c -> b"},
		"a service that depends on self": {map[string][]string{"a": {"a"}}, "dependency cycle: a -> a"},
	} {
		t.Run(name, func(t *testing.T) {
			out, err := Sort(c.needs)
			got := fmt.Sprint(out)
			if err != nil {
				var cycle Cycle
				if !errors.As(err, &cycle) {
					t.Fatalf("error of type %T", err)
				}
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// Layers in which each service needs all of the next are what made the
// library's own check exponential.
func TestSortIsLinear(t *testing.T) {
	needs := map[string][]string{}
	const layers, width = 200, 10
	for l := range layers {
		for w := range width {
			var deps []string
			if l+1 < layers {
				for x := range width {
					deps = append(deps, fmt.Sprintf("s%d-%d", l+1, x))
				}
			}
			needs[fmt.Sprintf("s%d-%d", l, w)] = deps
		}
	}
	start := time.Now()
	out, err := Sort(needs)
	if err != nil || len(out) != layers*width {
		t.Fatalf("sorted %d: %v", len(out), err)
	}
	if took := time.Since(start); took > kernel.Promptly(2*time.Second) {
		t.Errorf("took %s", took)
	}
	if slices.Index(out, "s199-0") > slices.Index(out, "s0-0") {
		t.Error("a need comes after its dependant")
	}
}
