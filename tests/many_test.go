package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/davit-run/davit/tests/kernel"
	"github.com/davit-run/davit/tests/residue"
)

// Up, ps and down of many containers of one project; newHost holds that they
// leave nothing.
func TestManyContainersOfOneProject(t *testing.T) {
	n := kernel.Tenth(200)
	h := newHost(t, "many", fmt.Sprintf("services:\n  web: {image: busybox, command: sleep 3600, stop_signal: SIGKILL, scale: %d}\n", n))
	begun := time.Now()
	h.davit("up", "-d")
	up := time.Since(begun)
	begun = time.Now()
	ids := strings.Fields(h.davit("ps", "-q"))
	ps := time.Since(begun)
	if len(ids) != n {
		t.Errorf("ps lists %d containers of %d", len(ids), n)
	}
	begun = time.Now()
	h.davit("down")
	t.Logf("%d containers: up %v, ps %v, down %v", n, up, ps, time.Since(begun))
}

// Many projects at once, ten containers each.
func TestManyProjectsAtOnce(t *testing.T) {
	n := max(2, kernel.Tenth(20))
	h := newHost(t, "crowd0", "services: {}\n")
	place := residue.Place{Root: h.root}
	for i := range n {
		name := fmt.Sprintf("crowd%d", i)
		dir := filepath.Join(h.dir, name)
		check(t, os.Mkdir(dir, 0o755))
		text := fmt.Sprintf("name: %s\nservices:\n  web: {image: busybox, command: sleep 3600, stop_signal: SIGKILL, scale: 10}\n", name)
		check(t, os.WriteFile(filepath.Join(dir, "compose.yaml"), []byte(text), 0o644))
		place.Projects = append(place.Projects, name)
	}
	before, err := place.Take()
	check(t, err)
	// A shell, because only this very thread is in the test's network.
	all := func(command string) string {
		out, err := kernel.Run(t.Context(), h.dir, []string{"DAVIT_ROOT=" + h.root}, "sh", "-c",
			"for d in crowd*/; do (cd $d && "+filepath.Join(h.bin, "davit")+" "+command+" || echo FAILED $d) & done; wait")
		if err != nil || strings.Contains(out, "FAILED") {
			t.Errorf("davit %s: %v\n%s", command, err, out)
		}
		return out
	}
	all("up -d")
	if ids := strings.Fields(all("ps -q")); len(ids) != 10*n {
		t.Errorf("%d containers of %d", len(ids), 10*n)
	}
	all("down")
	left, err := place.Wait(before)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

// Containers whose processes ignore SIGTERM, leave children behind and never
// reap are gone within the grace period and two seconds, and told as killed.
func TestStubbornProcessesEnd(t *testing.T) {
	n := kernel.Tenth(200)
	const script = `trap "" TERM; echo deaf; (sleep 3600 & sleep 3600 &); sh -c "trap \"\" TERM; while :; do sleep 1; done" & while :; do sh -c "exit 0" & sleep 1; done`
	h := newHost(t, "stubborn", fmt.Sprintf("services:\n  web:\n    image: busybox\n    stop_grace_period: 1s\n    scale: %d\n    command:\n      - sh\n      - -c\n      - '%s'\n",
		n, strings.ReplaceAll(script, "'", "''")))
	h.davit("up", "-d")
	kernel.Eventually(t, patience, "all of them ignore the signal", func() bool {
		return strings.Count(h.davit("logs", "--no-log-prefix"), "deaf\n") == n
	})
	begun := time.Now()
	out := h.davit("stop")
	took := time.Since(begun)
	last := begun
	for _, at := range strings.Fields(h.davit(append([]string{"inspect", "-f", "{{.State.FinishedAt}}"}, strings.Fields(h.davit("ps", "-aq"))...)...)) {
		end, err := time.Parse(time.RFC3339Nano, at)
		check(t, err)
		if end.After(last) {
			last = end
		}
	}
	t.Logf("%d containers of stubborn processes: all gone after %v, stop ended after %v", n, last.Sub(begun), took)
	// The grace period, two seconds, and what starting so many kills takes.
	if limit := time.Second + kernel.Promptly(2*time.Second+time.Duration(n)*10*time.Millisecond); last.Sub(begun) > limit {
		t.Errorf("%d stubborn containers were gone after %v, want %v", n, last.Sub(begun), limit)
	}
	if strings.Contains(out, "has no handler") {
		t.Errorf("a handler that does nothing is taken for none:\n%s", out)
	}
	codes := strings.Fields(h.davit("ps", "-a", "--format", "{{.ExitCode}}"))
	for _, code := range codes {
		if code != "137" {
			t.Errorf("a killed container is told to have ended with %s", code)
		}
	}
	if len(codes) != n {
		t.Errorf("%d containers of %d", len(codes), n)
	}
	h.davit("down")
}

// Containers that the kernel kills for want of memory are told so.
func TestOutOfMemoryIsTold(t *testing.T) {
	n := kernel.Tenth(100)
	h := newHost(t, "oom", fmt.Sprintf("services:\n  eater:\n    image: busybox\n    scale: %d\n    mem_limit: 12m\n    memswap_limit: 12m\n    command: [sh, -c, 'x=$$(tail /dev/zero)']\n", n))
	h.davit("up", "-d")
	kernel.Eventually(t, 3*patience, "all of them have ended", func() bool { return h.davit("ps", "-q") == "" })
	names := strings.Fields(h.davit("ps", "-a", "--format", "{{.Name}}"))
	if len(names) != n {
		t.Errorf("%d containers of %d", len(names), n)
	}
	told := h.davit(append([]string{"inspect", "-f", "{{.State.OOMKilled}} {{.State.ExitCode}}"}, names...)...)
	if want := strings.Repeat("true 137\n", n); told != want {
		t.Errorf("told\n%swant %d times true 137", told, n)
	}
	h.davit("down")
}
