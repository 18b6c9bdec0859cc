package tests

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/tests/kernel"
)

// maxMemory is what anchor and keeper may take together with 50 idle
// containers, in bytes.
const maxMemory = 40 << 20

func TestFiftyServicesComeUpInLittleMemoryAndLeaveNothing(t *testing.T) {
	const n = 50
	var compose strings.Builder
	compose.WriteString("services:\n")
	for i := range n {
		fmt.Fprintf(&compose, "  s%d: {image: busybox, command: sleep 600, stop_signal: SIGKILL}\n", i)
	}
	h := newHost(t, "fifty", compose.String())
	h.davit("up", "-d")
	for i := range n {
		if _, s, err := container(h.root, h.project, fmt.Sprintf("s%d-1", i)); err != nil || s.Status != engine.Running {
			t.Errorf("s%d is %q: %v", i, s.Status, err)
		}
	}
	ours := h.ours()
	if len(ours["anchor"]) != 1 || len(ours["keeper"]) != 1 {
		t.Fatalf("anchor and keeper are %v: want one of each", ours)
	}
	kernel.Eventually(t, patience, fmt.Sprintf("anchor and keeper take %d MiB at most when they have nothing to do", maxMemory>>20), func() bool {
		var total int64
		for who, pids := range ours {
			size, err := kernel.PSS(pids[0])
			check(t, err)
			t.Logf("%s: %.1f MiB", who, float64(size)/(1<<20))
			total += size
		}
		return total <= maxMemory
	})
	h.davit("down")
}

// killed is a project that prints 20,000 numbered lines a second until there is
// a file, and how many they were, serves a published port, and asks for a name
// again and again.
const killed = `
services:
  printer:
    image: busybox
    command: ["awk", "BEGIN { do { printf \"%09d ------------------------------------------------------------------------------------------\\n\", i++; if (i % 2000 == 0) fflush() } while (i % 2000 != 0 || system(\"usleep 98000; [ -e /told/stop ]\") != 0); print i, \"lines\" }"]
    volumes: ["./told:/told:ro"]
  web:
    image: busybox
    command: sh -c 'echo served >/index.html; exec httpd -f -p 80 -h /'
    stop_signal: SIGKILL
    ports: ["18090:80"]
  asker:
    image: busybox
    command: sh -c 'while sleep 0.05; do nslookup -timeout=60 -retry=60 web >/dev/null 2>&1 && echo found || echo LOST; done'
    stop_signal: SIGKILL
`

func TestKeeperKilledUnderLoad(t *testing.T) {
	kills := kernel.Tenth(200)
	h := newHost(t, "killed", killed)
	check(t, os.Mkdir(filepath.Join(h.dir, "told"), 0o755))
	h.davit("up", "-d")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	names := []string{"printer-1", "web-1", "asker-1"}
	before := map[string]identity{}
	for _, n := range names {
		before[n] = h.identity(n)
	}
	h.awaitPort(t)
	answers := h.keepAsking(ctx)
	var longest time.Duration
	for i := range kills {
		longest = max(longest, h.killKeeper(ctx, t, i))
		time.Sleep(time.Duration(100+rand.IntN(300)) * time.Millisecond) // anywhere in what the keeper does
	}
	t.Logf("the keeper was back within %v", longest)
	if refused := answers(); len(refused) > 0 {
		t.Errorf("the published port failed %d times: %v", len(refused), refused[0])
	}
	for _, n := range names {
		if now := h.identity(n); now != before[n] {
			t.Errorf("%s was %+v and is %+v", n, before[n], now)
		}
	}
	check(t, os.WriteFile(filepath.Join(h.dir, "told/stop"), nil, 0o644))
	kernel.Eventually(t, time.Minute, "the printer has ended", func() bool {
		_, s, err := container(h.root, h.project, "printer-1")
		return err == nil && s.Status == engine.Exited
	})
	h.checkLines(t)
	if asked := h.davit("logs", "--no-log-prefix", "asker"); strings.Contains(asked, "LOST") || !strings.Contains(asked, "found") {
		t.Errorf("the name was lost %d times and found %d times", strings.Count(asked, "LOST"), strings.Count(asked, "found"))
	}
	h.davit("down")
}

// killKeeper kills the keeper, waits for the next one, and returns how long it
// took.
func (h *host) killKeeper(ctx context.Context, t *testing.T, round int) time.Duration {
	t.Helper()
	old := h.keeper(ctx)
	if old == 0 {
		t.Fatalf("kill %d: there is no keeper", round)
	}
	start := time.Now()
	check(t, unix.Kill(old, unix.SIGKILL))
	kernel.Eventually(t, time.Minute, "another keeper answers", func() bool {
		now := h.keeper(ctx)
		return now != 0 && now != old
	})
	took := time.Since(start)
	if most := kernel.Promptly(time.Second); took > most {
		t.Errorf("kill %d: the keeper was back after %v, want at most %v", round, took, most)
	}
	return took
}

func (h *host) awaitPort(t *testing.T) {
	t.Helper()
	kernel.Eventually(t, time.Minute, "the published port answers", func() bool {
		ok := false
		h.inside(func() {
			answer, err := get("127.0.0.1:18090")
			ok = err == nil && strings.Contains(answer, "served")
		})
		return ok
	})
}

// keepAsking requests the published port until the returned function is
// called, which gives what went wrong.
func (h *host) keepAsking(ctx context.Context) func() []error {
	ctx, stop := context.WithCancel(ctx)
	failed := make(chan []error)
	go func() {
		var errs []error
		for ctx.Err() == nil {
			h.inside(func() {
				if answer, err := get("127.0.0.1:18090"); err != nil {
					errs = append(errs, err)
				} else if !strings.Contains(answer, "served") {
					errs = append(errs, fmt.Errorf("answered %q", answer))
				}
			})
			time.Sleep(20 * time.Millisecond)
		}
		failed <- errs
	}()
	return func() []error {
		stop()
		return <-failed
	}
}

// checkLines reads the printer's log back: every number once, in order, whole,
// and as many as it says.
func (h *host) checkLines(t *testing.T) {
	t.Helper()
	cmd := exec.Command(filepath.Join(h.bin, "davit"), "-p", h.project, "logs", "--no-log-prefix", "printer")
	cmd.Dir = h.dir
	cmd.Env = append(os.Environ(), "DAVIT_ROOT="+h.root)
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	next, want, wrong := 0, -1, 0
	for lines := bufio.NewScanner(out); lines.Scan(); next++ {
		text := lines.Text()
		if n, total := strings.CutSuffix(text, " lines"); total && want < 0 {
			want, err = strconv.Atoi(n)
			check(t, err)
			next--
		} else if text != fmt.Sprintf("%09d %s", next, strings.Repeat("-", 90)) && wrong < 5 {
			t.Errorf("line %d is %q", next, text)
			wrong++
			if n, err := strconv.Atoi(strings.Fields(text + " x")[0]); err == nil {
				next = n
			}
		}
	}
	check(t, cmd.Wait())
	t.Logf("%d lines", next)
	if next != want || next == 0 {
		t.Errorf("%d lines, want %d", next, want)
	}
}
