package guest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/davit-run/davit/engine/keeper/anchor"
	"github.com/davit-run/davit/tests/kernel"
	"github.com/davit-run/davit/tests/residue"
)

// These tests run in the guest, where nobody else uses davit: it keeps its data
// where it does by default, and systemd is the real one.

const patience = 2 * time.Minute

const shop = `
services:
  web:
    image: busybox
    command: sh -c 'echo served >/index.html; exec httpd -f -p 80 -h /'
    stop_signal: SIGKILL
    ports: ["127.0.0.1:18080:80"]
  worker:
    image: busybox
    command: sleep 1000d
    stop_signal: SIGKILL
    restart: always
    mem_limit: 64m
    pids_limit: 50
    cpus: 0.5
`

// A project is one in a directory of its own.
type project struct {
	t    *testing.T
	name string
	dir  string
}

func newProject(t *testing.T, name, file string) project {
	t.Helper()
	if os.Getenv("DAVIT_GUEST") == "" {
		t.Skip("for the guest that TestGuest boots")
	}
	if !anchor.Booted() {
		t.Fatal("systemd does not run here")
	}
	p := project{t, name, filepath.Join("/var/lib/projects", name)}
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(p.dir, "compose.yaml"), []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p project) scope() string { return "davit-" + p.name + ".scope" }

// run runs a command in the project's directory and returns what it printed.
func (p project) run(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(p.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir, cmd.WaitDelay = p.dir, time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

func (p project) must(args ...string) string {
	p.t.Helper()
	out, err := p.run(args...)
	if err != nil {
		p.t.Fatal(err)
	}
	return out
}

// inspect is a field of a service's container.
func (p project) inspect(service, format string) string {
	p.t.Helper()
	return strings.TrimSpace(p.must("davit", "inspect", "-f", format, p.name+"-"+service+"-1"))
}

// runs wants both services to run, in the project's unit, and one to answer.
func (p project) runs() {
	p.t.Helper()
	for _, service := range []string{"web", "worker"} {
		pid := p.inspect(service, "{{.State.Pid}}")
		group, err := os.ReadFile("/proc/" + pid + "/cgroup")
		if want := "/davit.slice/" + p.scope() + "/" + p.inspect(service, "{{.Id}}"); err != nil || !strings.Contains(string(group), "::"+want+"\n") {
			p.t.Errorf("%s is in %q (%v), not in %s", service, group, err, want)
		}
	}
	if out, err := get("http://127.0.0.1:18080/"); err != nil || out != "served\n" {
		p.t.Errorf("the published port answers %q, %v", out, err)
	}
	status := p.must("systemctl", "status", "--no-pager", "--full", p.scope())
	for _, word := range []string{"davit project " + p.name, "active (running)", "davit-runtime keeper", "davit-runtime anchor", "httpd -f"} {
		if !strings.Contains(status, word) {
			p.t.Errorf("systemctl status does not tell of %q:\n%s", word, status)
		}
	}
}

// down takes the project down and wants nothing to be left of it.
func (p project) down(before residue.Snapshot) {
	p.t.Helper()
	p.must("davit", "down", "-v")
	diff, err := place.Wait(before)
	if err != nil || len(diff) > 0 {
		p.t.Errorf("left behind: %v %v", diff, err)
	}
	kernel.Eventually(p.t, patience, "no unit is left", func() bool {
		return p.must("systemctl", "list-units", "--all", "--no-legend", "--plain", "davit*") == ""
	})
	kernel.Eventually(p.t, patience, "no group is left", func() bool {
		left, _ := filepath.Glob("/sys/fs/cgroup/davit*")
		return len(left) == 0
	})
}

func get(url string) (string, error) {
	client := http.Client{Timeout: patience}
	answer, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	return string(b), err
}

var place = residue.Place{Root: "/var/lib/davit"}

func take(t *testing.T) residue.Snapshot {
	t.Helper()
	before, err := place.Take()
	if err != nil {
		t.Fatal(err)
	}
	return before
}

// sleeps tells whether a process of the name `sleep SECONDS` runs.
func sleeps(seconds int) bool {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range all {
		if b, _ := os.ReadFile(path); string(b) == "sleep\x00"+strconv.Itoa(seconds)+"\x00" {
			return true
		}
	}
	return false
}

// The service that typed `up` ends, and with it whatever else it started.
func TestInsideTheUnitThatTypedUpEnds(t *testing.T) {
	p := newProject(t, "shop", shop)
	before := take(t)
	p.must("systemd-run", "--wait", "--collect", "--unit=typed-up", "-p", "WorkingDirectory="+p.dir, "-E", "PATH="+os.Getenv("PATH"),
		"sh", "-c", "davit up -d && (setsid sleep 77777 &) && sleep 1")
	if sleeps(77777) {
		t.Error("what else the unit started runs on")
	}
	p.runs()
	p.down(before)
}

// A login ends with KillUserProcesses=yes (logind.conf(5)), in which sudo was
// used.
func TestInsideTheLoginThatTypedUpEnds(t *testing.T) {
	p := newProject(t, "login", shop)
	before := take(t)
	p.must("systemd-run", "--wait", "--collect", "--unit=typed-login", "-p", "PAMName=login", "-p", "User=alice",
		"-p", "WorkingDirectory="+p.dir, "-E", "PATH="+os.Getenv("PATH"), "-E", "XDG_SESSION_TYPE=tty",
		"sh", "-c", "cat /proc/self/cgroup >/tmp/session; sudo -n $(command -v davit) up -d && (setsid sleep 88888 &) && sleep 1")
	session, err := os.ReadFile("/tmp/session")
	if err != nil || !strings.Contains(string(session), "/session-") {
		t.Fatalf("it was no login that typed up, but %q (%v)", session, err)
	}
	kernel.Eventually(t, patience, "what else the login started has been killed", func() bool { return !sleeps(88888) })
	p.runs()
	p.down(before)
}

// What is asked of cgroup v2 is seen from inside, and the unit around all
// containers is no limit.
func TestInsideLimitsHold(t *testing.T) {
	p := newProject(t, "limits", shop)
	before := take(t)
	p.must("davit", "up", "-d")
	got := p.must("davit", "exec", "-T", "worker", "cat", "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/cpu.max")
	if want := "67108864\n50\n50000 100000\n"; got != want {
		t.Errorf("memory.max, pids.max and cpu.max are %q, want %q", got, want)
	}
	for _, limit := range []string{"pids.max", "memory.max"} {
		if b, err := os.ReadFile("/sys/fs/cgroup/davit.slice/" + p.scope() + "/" + limit); err != nil || string(b) != "max\n" {
			t.Errorf("%s of the unit is %q, %v", limit, b, err)
		}
	}
	out, err := p.run("davit", "exec", "-T", "worker", "sh", "-c", "for i in $(seq 60); do sleep 99 & done")
	if err == nil {
		t.Errorf("60 processes could be started with pids_limit 50: %s", out)
	}
	p.down(before)
}

// One container runs out of memory: it is told apart, and the rest of the unit
// runs on.
func TestInsideOOMIsToldApart(t *testing.T) {
	p := newProject(t, "oom", shop+`
  eater: {image: busybox, mem_limit: 16m, memswap_limit: 16m, command: sh -c 'x=$$(tail /dev/zero)'}
`)
	before := take(t)
	p.must("davit", "up", "-d")
	kernel.Eventually(t, patience, "the eater has ended", func() bool { return p.inspect("eater", "{{.State.Status}}") == "exited" })
	if got := p.inspect("eater", "{{.State.OOMKilled}} {{.State.ExitCode}}"); got != "true 137" {
		t.Errorf("OOM and exit code are %q", got)
	}
	p.runs()
	p.down(before)
}

// The host goes down in good order with a project running.
func TestBeforeTheReboot(t *testing.T) {
	p := newProject(t, "reboot", shop)
	p.must("davit", "up", "-d")
	p.runs()
	if err := os.WriteFile("/var/lib/projects/rebooting", []byte(strconv.FormatInt(time.Now().Unix(), 10)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// After a reboot nothing runs and no unit is left; it was recorded that the
// containers were stopped; `up` starts them again.
func TestAfterTheReboot(t *testing.T) {
	p := newProject(t, "reboot", shop)
	b, err := os.ReadFile("/var/lib/projects/rebooting")
	if err != nil {
		t.Fatal(err)
	}
	asked, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	uptime, err := os.ReadFile("/proc/uptime")
	if err != nil {
		t.Fatal(err)
	}
	up, err := strconv.ParseFloat(strings.Fields(string(uptime))[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(time.Unix(asked, 0)) - time.Duration(up*float64(time.Second))
	t.Logf("from the request to the next kernel: %s", took.Round(time.Second))
	if took > 85*time.Second { // DefaultTimeoutStopSec is 90 s
		t.Errorf("the host waited %s for the project", took)
	}
	if out := p.must("systemctl", "list-units", "--all", "--no-legend", "--plain", "davit*"); out != "" {
		t.Errorf("units after the reboot: %s", out)
	}
	for _, service := range []string{"web", "worker"} {
		if got := p.inspect(service, "{{.State.Status}} {{.State.Pid}}"); got != "exited 0" {
			t.Errorf("%s is %q after the reboot", service, got)
		}
	}
	p.must("davit", "up", "-d")
	p.runs()
	p.must("davit", "down", "-v")
	before := take(t)
	p.must("davit", "up", "-d")
	p.runs()
	p.down(before)
}
