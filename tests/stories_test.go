package tests

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/davit-run/davit/engine/image"
	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/tests/images"
	"github.com/davit-run/davit/tests/kernel"
	"github.com/davit-run/davit/tests/residue"
)

// TestStories runs every script of script/ on the built executables. A story
// has a host's network of its own, a davit root of its own with busybox in it,
// and the name of its directory, $P, as its project's.
//
// Besides testscript's own commands there are:
//
//	state NAME STATUS        the container's record and process say so; NAME without $P-
//	state NAME absent        there is no such container
//	remember NAME            note which container and process NAME is now
//	[!] same NAME            it still is (or no longer is) that one
//	eventually CMD...        repeat state or exec until it succeeds, or patience ends
//	shows PATTERN CMD...     repeat CMD until its output matches, or patience ends
//	images NAME...           load further images of tests/images
//	remember-disk, same-disk everything below the root and the project is as it was
//	residue                  nothing is left of what was not there at the start
func TestStories(t *testing.T) {
	scripts, err := filepath.Glob("script/*.txtar")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("find stories: %v", err)
	}
	tell(t, scripts, kernel.Isolate)
}

// TestStoriesOnUnifiedCgroups runs what touches cgroups once more on the layout
// that most users have, whatever this machine's own is.
func TestStoriesOnUnifiedCgroups(t *testing.T) {
	var scripts []string
	for _, name := range []string{"up-down", "run-rm", "exec-status", "stop-start"} {
		scripts = append(scripts, filepath.Join("script", name+".txtar"))
	}
	tell(t, scripts, func() error {
		if err := kernel.Isolate(); err != nil {
			return err
		}
		return kernel.UnifiedCgroups()
	})
}

// tell runs scripts, each after isolate was called on its goroutine.
func tell(t *testing.T, scripts []string, isolate func() error) {
	kernel.NeedRoot(t)
	bin, err := kernel.Binaries()
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Files:              scripts,
		RequireUniqueNames: true,
		Setup:              func(e *testscript.Env) error { return setup(e, bin, isolate) },
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"state": state, "remember": remember, "same": same, "eventually": eventually, "shows": shows,
			"images": loadImages, "remember-disk": rememberDisk, "same-disk": sameDisk, "residue": noResidue,
		},
	})
}

// story is what the commands of one script share.
type story struct {
	place      residue.Place
	before     residue.Snapshot
	remembered map[string]identity
	disk       string
}

type storyKey struct{}

func of(ts *testscript.TestScript) *story { return ts.Value(storyKey{}).(*story) }

func setup(e *testscript.Env, bin string, isolate func() error) error {
	if err := isolate(); err != nil {
		return err
	}
	root, err := kernel.Root()
	if err != nil {
		return err
	}
	project := filepath.Base(e.WorkDir)
	e.Defer(func() {
		if err := kernel.Scrub(root); err != nil {
			e.T().Log("scrub:", err)
		}
	})
	e.Setenv("P", project)
	e.Setenv("EXAMPLES", filepath.Join(bin, "..", "examples"))
	e.Setenv("BIN", bin)
	e.Setenv("DAVIT_ROOT", root)
	e.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	e.Setenv("HOME", filepath.Join(e.WorkDir, ".home"))
	e.Setenv("TERM", "dumb")
	if err := load(context.Background(), root, "busybox"); err != nil {
		return err
	}
	s := &story{place: residue.Place{Root: root, Projects: []string{project}}, remembered: map[string]identity{}}
	if s.before, err = s.place.Take(); err != nil {
		return err
	}
	e.Values[storyKey{}] = s
	return nil
}

// made makes the images that stories load, each once per run of the tests.
var made = struct {
	sync.Mutex
	names map[string]bool
}{names: map[string]bool{}}

// load puts images into a davit root.
func load(ctx context.Context, root string, names ...string) error {
	cache, err := images.Open("")
	if err != nil {
		return err
	}
	ims, err := images.Find(names...)
	if err != nil {
		return err
	}
	made.Lock()
	for _, im := range ims {
		if err == nil && !made.names[im.Name] {
			err = cache.Make(ctx, os.Stderr, im)
			made.names[im.Name] = err == nil
		}
	}
	made.Unlock()
	if err != nil {
		return err
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(cache.WriteArchive(w, ims...)) }()
	layout := store.Layout{Data: filepath.Join(root, "data"), Run: filepath.Join(root, "run")}
	_, err = image.Open(layout).Load(ctx, r)
	return err
}
