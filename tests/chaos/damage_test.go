package chaos

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/local"
	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/tests/kernel"
)

// damages are what can happen to a file.
var damages = map[string]func(path string, r *rand.Rand) error{
	"truncated": func(path string, r *rand.Rand) error {
		st, err := os.Stat(path)
		if err != nil {
			return err
		}
		return os.Truncate(path, r.Int64N(max(st.Size(), 1)))
	},
	"flipped": func(path string, r *rand.Rand) error {
		b, err := os.ReadFile(path)
		if err == nil && len(b) > 0 {
			b[r.IntN(len(b))] ^= 1 << r.IntN(8)
			err = os.WriteFile(path, b, 0o600)
		}
		return err
	},
	"directory": func(path string, _ *rand.Rand) error {
		return instead(path, func() error { return os.Mkdir(path, 0o700) })
	},
	"fifo": func(path string, _ *rand.Rand) error {
		return instead(path, func() error { return unix.Mkfifo(path, 0o600) })
	},
	"link": func(path string, _ *rand.Rand) error {
		return instead(path, func() error { return os.Symlink("/etc/passwd", path) })
	},
	"newer": func(path string, _ *rand.Rand) error {
		return os.WriteFile(path, []byte(`{"version":99,"crc32":0,"body":{}}`), 0o600)
	},
	"mode": func(path string, _ *rand.Rand) error { return os.Chmod(path, 0) },
	"huge": func(path string, _ *rand.Rand) error { return os.Truncate(path, 1<<30) },
}

// instead puts something else in a file's place, though its keeper may write it
// anew meanwhile.
func instead(path string, put func() error) error {
	for {
		if err := os.Remove(path); err != nil {
			return err
		}
		if err := put(); !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
}

// stopped stops the project, and returns when nobody works on its records.
func (w *World) stopped(t *testing.T) {
	t.Helper()
	w.must(t, "stop")
	kernel.Eventually(t, patience, "keeper and anchor have left", func() bool { return w.count("keeper")+w.count("anchor") == 0 })
}

// records are the world's state files.
func (w *World) records(t *testing.T) (all []string) {
	t.Helper()
	for _, top := range []string{w.Layout().Projects(), w.Layout().Networks(), w.Layout().Volumes(), w.Layout().Images(), w.Layout().RunProject(w.Project)} {
		err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			if d.IsDir() && slices.Contains([]string{"_data", "upper", "work", "log", "rootfs"}, d.Name()) {
				return fs.SkipDir
			}
			if strings.HasSuffix(path, "~") {
				return nil // it counts when the record itself is damaged
			}
			if b, err := os.ReadFile(path); err == nil && strings.HasPrefix(string(b), `{"version"`) {
				all = append(all, path)
			}
			return nil
		})
		must(t, err)
	}
	return all
}

// TestDamagedRecords damages every state file in every way: whoever reads it
// names it or does without, and nobody panics. 200 of them, with DAVIT_LONG
// 2,000.
func TestDamagedRecords(t *testing.T) {
	cases := kernel.Often(200, 2000)
	w := newWorld(t, "chaosdamage", "")
	w.must(t, "up", "-d")
	w.stopped(t)
	files := w.records(t)
	if len(files) < 10 {
		t.Fatalf("only %d records: %v", len(files), files)
	}
	r := rand.New(rand.NewPCG(1, 2))
	kinds := []string{"truncated", "flipped", "directory", "fifo", "link", "newer", "mode", "huge"}
	for i := range cases {
		path, kind := files[i%len(files)], kinds[i/len(files)%len(kinds)]
		w.damaged(t, path, kind, r)
	}
	w.must(t, "down", "-v")
}

// damaged reads everything with one file damaged, then puts the file back.
func (w *World) damaged(t *testing.T, path, kind string, r *rand.Rand) {
	t.Helper()
	kept, err := os.ReadFile(path)
	must(t, err)
	older, oerr := os.ReadFile(path + "~")
	must(t, os.RemoveAll(path+"~")) // else the generation before stands in
	must(t, damages[kind](path, r))
	defer func() {
		must(t, os.RemoveAll(path))
		must(t, os.WriteFile(path, kept, 0o600))
		if oerr == nil {
			must(t, os.WriteFile(path+"~", older, 0o600))
		}
	}()
	if kind == "flipped" && store.Read(path, new(any)) == nil {
		return // the flip hit what carries no meaning
	}
	e := local.Open(w.Layout())
	defer e.Close()
	ctx := context.Background()
	named := false
	note := func(err error) { named = named || err != nil && strings.Contains(err.Error(), path) }
	_, err = e.Containers(ctx, w.Project)
	note(err)
	_, err = e.ProjectNetworks(ctx, w.Project)
	note(err)
	_, err = e.ProjectVolumes(ctx, w.Project)
	note(err)
	_, err = e.Images(ctx, []string{"busybox"})
	note(err)
	found, err := e.Doctor(ctx)
	note(err)
	for _, f := range found {
		note(errors.New(f.What))
	}
	worse, err := e.Check(ctx, false)
	note(err)
	for _, d := range worse {
		note(errors.New(d.What))
	}
	if !named && kind != "mode" { // the superuser reads whatever its mode
		t.Errorf("%s %s: nobody names the file", kind, path)
	}
}

// TestDownOfTheDamaged takes projects down of which a record is damaged.
func TestDownOfTheDamaged(t *testing.T) {
	every := kernel.Often(10, 1)
	w := newWorld(t, "chaosdown", "")
	r := rand.New(rand.NewPCG(3, 4))
	i := 0
	for _, running := range []bool{true, false} {
		for _, base := range []string{"container.json", "state.json", "network.json", "runtime", "leases", "endpoints", "place"} {
			for _, kind := range []string{"truncated", "directory", "newer"} {
				if i++; i%every != 0 {
					continue
				}
				w.downDamaged(t, running, base, kind, r)
			}
		}
	}
}

func (w *World) downDamaged(t *testing.T, running bool, base, kind string, r *rand.Rand) {
	w.must(t, "up", "-d")
	var path string
	for _, f := range w.records(t) {
		if filepath.Base(f) == base || filepath.Base(filepath.Dir(f)) == base || base == "place" && filepath.Base(filepath.Dir(f)) == "net" {
			path = f
		}
	}
	if path == "" {
		t.Fatalf("there is no %s", base)
	}
	if !running {
		w.stopped(t)
		if _, err := os.Stat(path); err != nil {
			w.must(t, "down", "-v")
			return
		}
	}
	_ = os.Remove(path + "~")
	must(t, damages[kind](path, r))
	out, err := w.Davit("down", "-v")
	if err != nil {
		t.Errorf("%v", err)
	}
	left, err := w.Residue()
	if err != nil || len(left) > 0 {
		t.Errorf("%s: left behind: %v %v\n%s\n%s", path, left, err, out, w.Log())
		must(t, w.renew())
	}
}
