package tests

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/davit-run/davit/"

// A goPackage is what go list says of a package.
type goPackage struct {
	ImportPath string
	Doc        string
	Standard   bool
	Imports    []string
}

// goList lists packages as they are built for release.
func goList(t *testing.T, cgo string, args ...string) []goPackage {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-json=ImportPath,Doc,Standard,Imports",
		"-tags", "seccomp netgo osusergo"}, args...)...)
	cmd.Dir = ".."
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED="+cgo)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list %v: %v\n%s", args, err, errs.Bytes())
	}
	var all []goPackage
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// lookAtSources opens every directory of the module, so that go test, which
// does not see what go list reads, does not answer from its cache after a
// source has changed.
func lookAtSources(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && (d.Name() == ".git" || d.Name() == "bin") {
			return fs.SkipDir
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// ourPackages returns the packages of the module by their path in it.
func ourPackages(t *testing.T) map[string]goPackage {
	t.Helper()
	lookAtSources(t)
	all := map[string]goPackage{}
	for _, p := range goList(t, "1", "./...") {
		all[strings.TrimPrefix(p.ImportPath, module)] = p
	}
	return all
}

// trees lists, for each tree, the other trees that it may import, and the
// order of its own rooms: each may import those after it.
var trees = map[string]struct {
	sees  []string
	rooms []string
}{
	"project":   {rooms: []string{"compose", "artifact", "source", "order"}},
	"reconcile": {sees: []string{"project", "engine"}, rooms: []string{"watch", "apply", "desired"}},
	"engine": {sees: []string{"netdns", "logs"}, rooms: []string{
		"local", "keeper", "build", "registry", "git", "image", "volume", "runtime", "bundle", "layer", "store"}},
	"netdns": {rooms: []string{"attach", "bridge", "ipam", "sandbox", "firewall", "resolver", "netns", "holder"}},
	"logs":   {rooms: []string{"console", "mux", "journal"}},
}

// nounsOnly are trees that see of another tree its root package alone.
var nounsOnly = map[string][]string{"reconcile": {"engine"}}

// TestImportsPointDown holds the order of the rooms.
func TestImportsPointDown(t *testing.T) {
	for path, p := range ourPackages(t) {
		tree, _, _ := strings.Cut(path, "/")
		if _, ok := trees[tree]; !ok {
			continue // cmd, examples and tests see everything
		}
		for _, imported := range p.Imports {
			to, ours := strings.CutPrefix(imported, module)
			if !ours {
				continue
			}
			if why := refuse(path, to); why != "" {
				t.Errorf("%s imports %s: %s", path, to, why)
			}
		}
	}
}

// refuse says why a package must not import another one of the module; empty
// when it may.
func refuse(from, to string) string {
	fromTree, fromRoom := split(from)
	toTree, toRoom := split(to)
	tree := trees[fromTree]
	if fromTree != toTree {
		switch {
		case !slices.Contains(tree.sees, toTree):
			return fmt.Sprintf("%s sees %q only", fromTree, tree.sees)
		case toRoom != "" && slices.Contains(nounsOnly[fromTree], toTree):
			return fmt.Sprintf("%s sees the nouns of %s only", fromTree, toTree)
		case fromTree == "engine" && fromRoom == "":
			return "package engine imports the standard library only"
		}
		return ""
	}
	if fromRoom == "" {
		return "a tree's root never imports its rooms"
	}
	if toRoom == "" || toRoom == fromRoom {
		return ""
	}
	a, b := slices.Index(tree.rooms, fromRoom), slices.Index(tree.rooms, toRoom)
	if a < 0 || b < 0 {
		return fmt.Sprintf("there is no such room in %s: %q", fromTree, tree.rooms)
	}
	if b < a {
		return fmt.Sprintf("%s lies above %s", toRoom, fromRoom)
	}
	return ""
}

// split returns the tree of a package and its room, empty for the tree's root.
// The wire is what a keeper's callers import; it lies below the rooms.
func split(path string) (tree, room string) {
	tree, rest, _ := strings.Cut(path, "/")
	room, _, _ = strings.Cut(rest, "/")
	return tree, room
}

// libraryRooms says where each heavy library may be imported.
var libraryRooms = map[string][]string{
	"github.com/spf13/cobra":                 {"cmd/cli"},
	"github.com/compose-spec/compose-go":     {"project/compose"},
	"github.com/moby/buildkit":               {"engine/build"},
	"github.com/containerd/containerd":       {"engine/registry", "engine/build"},
	"github.com/opencontainers/runc":         {"engine/bundle", "engine/runtime", "cmd/davit-runtime"},
	"github.com/opencontainers/cgroups":      {"engine/bundle", "engine/runtime"},
	"github.com/vishvananda/netlink":         {"netdns"},
	"github.com/vishvananda/netns":           {"netdns"},
	"github.com/google/nftables":             {"netdns"},
	"github.com/containernetworking/plugins": {"netdns"},
	"github.com/charmbracelet":               {"cmd", "logs/console"},
	"github.com/godbus/dbus":                 {"engine/keeper/unit"},
}

// TestEveryLibraryHasItsRoom fails when a heavy library is imported elsewhere.
func TestEveryLibraryHasItsRoom(t *testing.T) {
	for path, p := range ourPackages(t) {
		if strings.HasPrefix(path, "tests") {
			continue
		}
		for _, imported := range p.Imports {
			for library, rooms := range libraryRooms {
				if below(imported, library) && !slices.ContainsFunc(rooms, func(r string) bool { return below(path, r) }) {
					t.Errorf("%s imports %s, whose room is %q", path, imported, rooms)
				}
			}
		}
	}
}

func below(path, top string) bool { return path == top || strings.HasPrefix(path, top+"/") }

// TestNounsImportTheStandardLibraryOnly keeps planning free of the kernel side.
func TestNounsImportTheStandardLibraryOnly(t *testing.T) {
	for _, p := range goList(t, "1", "-deps", "./engine") {
		if !p.Standard && p.ImportPath != module+"engine" {
			t.Errorf("package engine depends on %s", p.ImportPath)
		}
	}
}

// TestExecutablesLinkWhatTheyShould holds what keeps davit-runtime slim and
// davit free of the kernel side.
func TestExecutablesLinkWhatTheyShould(t *testing.T) {
	for _, e := range []struct {
		program, cgo string
		without      []string
	}{
		{"./cmd/davit-runtime", "1", []string{
			"github.com/compose-spec/compose-go", "github.com/moby/buildkit", "github.com/containerd/containerd",
			"github.com/spf13/cobra", "github.com/charmbracelet", "gopkg.in/yaml.v3", "go.yaml.in/yaml", "net/http",
			module + "engine/registry", module + "engine/build", module + "project", module + "reconcile", module + "cmd/cli",
		}},
		{"./cmd/davit", "0", []string{
			"github.com/opencontainers/runc", "github.com/vishvananda/netlink", "github.com/google/nftables",
			"github.com/godbus/dbus", module + "engine/runtime", module + "engine/bundle", module + "netdns/bridge", module + "netdns/firewall",
		}},
	} {
		for _, p := range goList(t, e.cgo, "-deps", e.program) {
			for _, w := range e.without {
				if below(p.ImportPath, w) {
					t.Errorf("%s links %s", e.program, p.ImportPath)
				}
			}
		}
	}
}
