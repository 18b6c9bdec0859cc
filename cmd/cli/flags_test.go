package cli

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// coming are commands of docker compose that davit does not have yet. A
// command that comes must leave this list.
var coming = []string{}

// TestFlagsOfDockerCompose holds that every command takes every flag that
// docker compose 5.7 takes, hidden ones included, under the same letters:
// scripts use them.
func TestFlagsOfDockerCompose(t *testing.T) {
	b, err := os.ReadFile("testdata/flags.txt")
	if err != nil {
		t.Fatal(err)
	}
	root := newRoot(&globals{in: os.Stdin, out: os.Stdout, err: os.Stderr})
	seen := map[string]bool{}
	for line := range strings.Lines(string(b)) {
		words := strings.Fields(line)
		name, flag, letter := words[0], words[1], ""
		if len(words) > 2 {
			letter = words[2]
		}
		c := root
		if name != "davit" {
			c, _, err = root.Find([]string{name})
			if err != nil || c == root {
				if !slices.Contains(coming, name) {
					t.Errorf("there is no command %s", name)
				}
				continue
			}
		}
		seen[name] = true
		f := c.Flags().Lookup(flag)
		if f == nil {
			f = c.InheritedFlags().Lookup(flag)
		}
		if f == nil {
			f = root.PersistentFlags().Lookup(flag)
		}
		if f == nil {
			t.Errorf("%s: there is no --%s", name, flag)
		} else if f.Shorthand != letter {
			t.Errorf("%s --%s: the letter is %q, not %q", name, flag, f.Shorthand, letter)
		}
	}
	for _, name := range coming {
		if seen[name] {
			t.Errorf("%s has come: take it off the list", name)
		}
	}
	if len(seen) < 20 {
		t.Errorf("only %d commands were looked at", len(seen))
	}
}

// TestEveryFlagSaysWhatItDoes keeps the help whole.
func TestEveryFlagSaysWhatItDoes(t *testing.T) {
	root := newRoot(&globals{in: os.Stdin, out: os.Stdout, err: os.Stderr})
	for _, c := range root.Commands() {
		if c.Short == "" && !c.Hidden {
			t.Errorf("%s says nothing of itself", c.Name())
		}
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s --%s says nothing of itself", c.Name(), f.Name)
			}
		})
	}
}
