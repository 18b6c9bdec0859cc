package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/tests/kernel"
)

// writing is the reference project with a worker whose log is rotated twice a
// second, and a database that says in dir which number it has brought to its
// volume.
func writing(dir string) string {
	s := strings.Replace(counting, "usleep 20000", "usleep 1000", 1)
	s = strings.Replace(s, "    restart: always", "    restart: always\n    logging: {options: {max-size: 4k, max-file: \"100\"}}", 1)
	s = strings.Replace(s, "echo up; exec sleep 1000d",
		"i=$$(wc -l </data/n); while :; do i=$$((i+1)); echo $$i >>/data/n; sync -d /data/n && echo $$i >/ack/n; usleep 5000; done", 1)
	return strings.Replace(s, `["data:/data"]`, fmt.Sprintf(`["data:/data", "%s:/ack"]`, dir), 1)
}

// A cut is a command during which the power goes.
type cut struct {
	name string
	base string // nothing, up or stopped
	args []string
	most time.Duration // after the begin
}

var cuts = []cut{
	{"up", "nothing", []string{"up", "-d"}, 400 * time.Millisecond},
	{"down", "up", []string{"down", "-v"}, 300 * time.Millisecond},
	{"load", "bare", []string{"load", "-i", "busybox.tar"}, 150 * time.Millisecond},
	{"recreate", "up", []string{"up", "-d", "--force-recreate"}, 500 * time.Millisecond},
	{"logs", "up", nil, 500 * time.Millisecond},
}

// logLoss is how much of a log the cut may take, a second, and as much again as
// a busy machine needs to get to it.
const logLoss = 3 * time.Second

// TestPowerCuts cuts the power under commands: what they said was done is
// done, every record can be read, no half layer is believed, the next up has
// all run. 5 cuts, with DAVIT_LONG 200.
func TestPowerCuts(t *testing.T) {
	rounds := kernel.Often(5, 200)
	w, ack := newDiskWorld(t, "chaospower", 512<<20)
	r := rand.New(rand.NewPCG(5, 6))
	for i := range rounds {
		c := cuts[i%len(cuts)]
		p := power{t: t, w: w, ack: ack, cut: c, after: time.Duration(r.Int64N(int64(c.most)))}
		p.run()
		if t.Failed() {
			t.Fatalf("round %d: %s cut after %v, which had said it was done: %v", i, c.name, p.after, p.acked)
		}
	}
	must(t, w.disk.unmount())
	must(t, w.disk.Verify())
}

// newDiskWorld is NewDiskWorld with the writing project; ack is where its
// database says what it has written.
func newDiskWorld(t *testing.T, project string, size int64, options ...string) (w *World, ack string) {
	t.Helper()
	kernel.NeedRoot(t)
	dir := t.TempDir()
	ack = filepath.Join(dir, "ack")
	must(t, os.Mkdir(ack, 0o755))
	w, err := NewDiskWorld(project, dir, size, options...)
	if errors.Is(err, ErrNoDisk) {
		t.Skip(err)
	}
	must(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("keeper.log:\n%s", w.Log())
		}
		must(t, w.Close())
	})
	must(t, w.Compose(writing(ack)))
	return w, ack
}

// A power is one cut and what is wanted after it.
type power struct {
	t     *testing.T
	w     *World
	ack   string
	cut   cut
	after time.Duration
	acked bool // the command had succeeded
	log   int  // number of a line that must not be lost; -1: none
}

func (p *power) run() {
	p.t.Helper()
	p.log = -1
	p.prepare()
	written := p.strike()
	must(p.t, p.w.PowerOn())
	p.readable()
	p.kept(written)
	if p.cut.name == "load" && !p.acked {
		p.w.must(p.t, p.cut.args...)
	}
	p.w.must(p.t, "up", "-d")
	must(p.t, p.w.becomesUp())
	p.w.must(p.t, "down", "-v")
	left, err := p.w.Residue()
	if err != nil || len(left) > 0 {
		p.t.Errorf("left behind: %v %v", left, err)
	}
}

func (p *power) prepare() {
	must(p.t, os.RemoveAll(p.ack+"/n"))
	switch p.cut.base {
	case "bare":
		p.w.must(p.t, "image", "rm", "-f", "busybox:latest", "busybox:1")
	case "up":
		p.w.must(p.t, "up", "-d")
	}
	if p.cut.args == nil {
		kernel.Eventually(p.t, patience, "it prints", func() bool {
			numbers := ticks(p.w.must(p.t, "logs", "--no-log-prefix", "-n", "1", "worker"))
			if len(numbers) == 1 {
				p.log = numbers[0]
			}
			return p.log > 100
		})
		time.Sleep(logLoss)
		// Neither its syncing nor what it was too late for is under way any more.
		kernel.Eventually(p.t, patience, "the keeper has done what was due", func() bool { return kernel.Asleep(p.w.Process("keeper")) })
	}
}

// strike runs the command and cuts the power under it. It returns what the
// database had said before: a sync under way at the cut may succeed and be lost,
// for ext4 reports no failed conversion of an extent when it is shut down.
func (p *power) strike() (written []byte) {
	p.t.Helper()
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(p.t.Context())
	defer cancel()
	if p.cut.args != nil {
		cmd := p.w.command(ctx, p.cut.args...)
		must(p.t, cmd.Start())
		go func() { ended <- cmd.Wait() }()
	} else {
		ended <- errors.New("there is none")
	}
	time.Sleep(p.after)
	select {
	case err := <-ended:
		p.acked = err == nil
		ended <- err
	default:
	}
	written, _ = os.ReadFile(p.ack + "/n")
	must(p.t, p.w.PowerOff())
	cancel()
	<-ended
	return written
}

// readable wants every record that is on the disk to be one.
func (p *power) readable() {
	p.t.Helper()
	l := p.w.Layout()
	for _, top := range []string{l.Projects(), l.Networks(), l.Volumes(), l.Images(), l.Layers()} {
		err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			if d.IsDir() && slices.Contains([]string{"_data", "upper", "work", "log", "fs"}, d.Name()) {
				return fs.SkipDir
			}
			if !strings.HasSuffix(path, ".json") {
				return nil
			}
			var damaged *store.DamagedError
			if err := store.Read(path, new(any)); errors.As(err, &damaged) && (!damaged.Blank || !unsynced(path)) {
				p.t.Errorf("%v", err)
			}
			return nil
		})
		must(p.t, err)
	}
}

// unsynced tells the records that may come out of a power cut blank: what a
// container did in a boot that is over, and layers that were never believed.
func unsynced(path string) bool {
	dir := filepath.Base(filepath.Dir(filepath.Dir(path)))
	return filepath.Base(path) == "state.json" || dir == "layers"
}

// kept wants there to be what somebody was told is there.
func (p *power) kept(written []byte) {
	p.t.Helper()
	if p.acked || p.cut.args == nil {
		p.containers()
	}
	if p.cut.name == "load" && p.acked {
		p.w.must(p.t, "run", "--rm", "-T", "--no-deps", "worker", "true")
	}
	if p.cut.name != "down" {
		p.volume(written)
	}
	if p.log >= 0 {
		p.lines()
	}
}

// containers wants those that a command said are there, and no others.
func (p *power) containers() {
	p.t.Helper()
	all, err := p.w.States()
	must(p.t, err)
	want := 3
	if p.cut.name == "down" || p.cut.name == "load" {
		want = 0
	}
	if len(all) != want {
		p.t.Errorf("%d containers, want %d", len(all), want)
	}
}

// lines wants the log to be whole but for its last moments.
func (p *power) lines() {
	p.t.Helper()
	numbers := ticks(p.w.must(p.t, "logs", "--no-log-prefix", "worker"))
	for i, n := range numbers {
		if i > 0 && n != numbers[i-1]+1 {
			p.t.Errorf("line %d follows line %d", n, numbers[i-1])
		}
	}
	if len(numbers) == 0 || numbers[len(numbers)-1] < p.log {
		p.t.Errorf("of %d lines none is as new as line %d, %v before the cut", len(numbers), p.log, logLoss)
	}
}

// volume wants the numbers in the volume to be whole, up to the one that was
// known to be written at least.
func (p *power) volume(written []byte) {
	p.t.Helper()
	last, err := strconv.Atoi(string(bytes.TrimSpace(written)))
	if err != nil {
		return // nothing was
	}
	b, err := os.ReadFile(filepath.Join(p.w.Layout().VolumeData(p.w.Project+"_data"), "n"))
	must(p.t, err)
	n := 0
	for line := range strings.Lines(string(b)) {
		if n++; strings.TrimSpace(line) != strconv.Itoa(n) && n <= last {
			p.t.Fatalf("number %d in the volume is %q", n, line)
		}
	}
	if n < last {
		p.t.Errorf("the volume has %d numbers, and %d were written", n, last)
	}
}

// ticks are the numbers in a worker's output.
func ticks(out string) (all []int) {
	for line := range strings.Lines(out) {
		if s, ok := strings.CutPrefix(strings.TrimSpace(line), "tick "); ok {
			if n, err := strconv.Atoi(s); err == nil {
				all = append(all, n)
			}
		}
	}
	return all
}
