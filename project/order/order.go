package order

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Cycle is a chain of names that comes back to its first one.
type Cycle []string

// Error names the chain: "web -> db -> web".
func (c Cycle) Error() string {
	return fmt.Sprintf("dependency cycle: %s", strings.Join(c, " -> "))
}

// Sort returns every name of needs after all the names it needs, and otherwise
// in alphabetical order of the chains' heads. Needed names that are no keys are
// left out. It is linear in names and edges; a cycle is an error of type Cycle.
func Sort(needs map[string][]string) ([]string, error) {
	s := sorter{needs: needs, state: make(map[string]int, len(needs)), out: make([]string, 0, len(needs))}
	for _, name := range slices.Sorted(maps.Keys(needs)) {
		if err := s.visit(name); err != nil {
			return nil, err
		}
	}
	return s.out, nil
}

const (
	open = iota + 1
	done
)

type sorter struct {
	needs map[string][]string
	state map[string]int
	out   []string
}

// A frame is one name on the way down and how many of its needs are done. The
// stack is our own, so that a chain of any length fits.
type frame struct {
	name string
	deps []string
}

func (s *sorter) visit(root string) error {
	if s.state[root] != 0 {
		return nil
	}
	stack := []frame{s.enter(root)}
	for len(stack) > 0 {
		top := &stack[len(stack)-1]
		if len(top.deps) == 0 {
			s.state[top.name] = done
			s.out = append(s.out, top.name)
			stack = stack[:len(stack)-1]
			continue
		}
		next := top.deps[0]
		top.deps = top.deps[1:]
		switch s.state[next] {
		case done:
		case open:
			return cycleOf(stack, next)
		default:
			if _, known := s.needs[next]; known {
				stack = append(stack, s.enter(next))
			}
		}
	}
	return nil
}

func (s *sorter) enter(name string) frame {
	s.state[name] = open
	return frame{name, slices.Sorted(slices.Values(s.needs[name]))}
}

func cycleOf(stack []frame, back string) Cycle {
	var c Cycle
	for _, f := range stack {
		if f.name == back || len(c) > 0 {
			c = append(c, f.name)
		}
	}
	return append(c, back)
}
