package attach

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/davit-run/davit/netdns"
	"github.com/davit-run/davit/netdns/netns"
)

// A guest is a Debian system with ufw and firewalld in it, running in the
// network namespace of a test's host: what it writes goes when it ends, and its
// processes with it.
type guest struct {
	w    *world
	root string
	pid  int
}

// guestScript mounts the system with a layer that catches what it writes, starts
// what it is given, and stays.
const guestScript = `
mount -t tmpfs tmpfs "$WORK"
mkdir "$WORK/upper" "$WORK/work"
mount -t overlay overlay -o "lowerdir=$BELOW,upperdir=$WORK/upper,workdir=$WORK/work" "$ROOT"
mount -t proc proc "$ROOT/proc"
mount --bind /dev "$ROOT/dev"
mount -t tmpfs tmpfs "$ROOT/run"
mkdir "$ROOT/run/dbus"
echo ready
exec chroot "$ROOT" sh -c "$RUN
exec sleep 3600"
`

// newGuest starts the system that "make firewalls" leaves in the cache.
func newGuest(w *world, run string) *guest {
	w.t.Helper()
	cache, err := os.UserCacheDir()
	below := filepath.Join(cache, "davit", "firewalls")
	if _, serr := os.Stat(filepath.Join(below, "usr/sbin/firewalld")); err != nil || serr != nil {
		w.t.Skip("ufw and firewalld are not here; make firewalls gets them from Debian")
	}
	g := &guest{w: w, root: w.t.TempDir()}
	cmd := exec.Command("sh", "-euc", guestScript)
	cmd.Env = append(os.Environ(), "BELOW="+below, "WORK="+w.t.TempDir(), "ROOT="+g.root, "RUN="+run, "LC_ALL=C")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	must(w.t, err)
	must(w.t, netns.In(w.host, cmd.Start))
	w.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if _, err := out.Read(make([]byte, 6)); err != nil {
		w.t.Fatalf("start %s: %v", below, err)
	}
	g.pid = cmd.Process.Pid
	return g
}

// words are a command of the guest's as the host runs it.
func (g *guest) words(args ...string) []string {
	return append([]string{"nsenter", fmt.Sprintf("--mount=/proc/%d/ns/mnt", g.pid), fmt.Sprintf("--pid=/proc/%d/ns/pid_for_children", g.pid), "chroot", g.root}, args...)
}

func (g *guest) try(args ...string) (string, error) {
	words := g.words(args...)
	var out []byte
	err := netns.In(g.w.host, func() (err error) {
		cmd := exec.Command(words[0], words[1:]...)
		cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
		out, err = cmd.CombinedOutput()
		return err
	})
	return string(out), err
}

func (g *guest) do(args ...string) string {
	g.w.t.Helper()
	out, err := g.try(args...)
	if err != nil {
		g.w.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// beside holds what has to be true of a host that runs davit and another
// firewall: within two seconds of any change.
type beside struct {
	w              *world
	a, b           *os.File
	addrA, addrOff string
}

func newBeside(w *world) *beside {
	x := &beside{w: w}
	w.network(netdns.Network{Name: "a"})
	w.network(netdns.Network{Name: "off"})
	a, as := w.container("a", "a")
	b, _ := w.container("b", "a")
	off, offs := w.container("off", "off")
	hello(w.t, a, "a", 80)
	hello(w.t, off, "off", 80)
	hello(w.t, w.lan, "lan", 80)
	x.a, x.b, x.addrA, x.addrOff = a, b, at(as[0].IPv4, 80), at(offs[0].IPv4, 80)
	w.publish(netdns.Publication{HostPort: 8080, ContainerPort: 80, Protocol: "tcp", Container: "c-a", Network: "a", To: as[0].IPv4})
	return x
}

func (x *beside) holds(when string) {
	x.w.t.Helper()
	for what, got := range map[string]func() bool{
		"to the outside": func() bool { return knock(x.a, "tcp", "198.51.100.2:80") == "lan 198.51.100.1" },
		"on the bridge":  func() bool { return strings.HasPrefix(knock(x.b, "tcp", x.addrA), "a ") },
		"published":      func() bool { return knock(x.w.lan, "tcp", "198.51.100.1:8080") == "a 198.51.100.2" },
		"on loopback":    func() bool { return strings.HasPrefix(knock(x.w.host, "tcp", "127.0.0.1:8080"), "a ") },
	} {
		eventually(x.w.t, when+": "+what, got)
	}
	expect(x.w.t, when+": another network", knock(x.b, "tcp", x.addrOff), "closed")
}

// watched keeps the rules standing until the test ends.
func (w *world) watched() {
	stop, cancel := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- w.h.Watch(stop) }()
	w.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Errorf("Watch: %v", err)
		}
	})
	w.listens()
}

// ufw drops what is forwarded, whether it was there first or comes later, and
// on every reload: what davit forwards passes, and afterwards ufw's rules are
// what they were.
func TestBesideUFW(t *testing.T) {
	w := newWorld(t)
	g := newGuest(w, ":")
	g.do("ufw", "--force", "enable")
	before := g.do("iptables", "-S")
	if !strings.Contains(before, "-P FORWARD DROP") {
		t.Fatalf("ufw lets everything be forwarded:\n%s", before)
	}
	x := newBeside(w)
	w.watched()
	x.holds("ufw first")
	g.do("ufw", "reload")
	x.holds("reloaded")
	g.do("ufw", "disable")
	x.holds("disabled")
	g.do("ufw", "--force", "enable")
	x.holds("enabled again")
	must(t, w.h.Remove(ctx, "a"))
	must(t, w.h.Remove(ctx, "off"))
	expect(t, "ufw's rules afterwards", g.do("iptables", "-S"), before)
}

// firewalld rejects what is forwarded between its zones: davit's bridges are in
// the trusted one, and come back to it after a reload.
func TestBesideFirewalld(t *testing.T) {
	w := newWorld(t)
	g := newGuest(w, "dbus-daemon --system --nopidfile --fork; firewalld")
	bin := t.TempDir()
	script := "#!/bin/sh\nexec " + strings.Join(g.words("firewall-cmd"), " ") + " \"$@\"\n"
	must(t, os.WriteFile(filepath.Join(bin, "firewall-cmd"), []byte(script), 0o755))
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	running := func() {
		t.Helper()
		eventually(t, "firewalld runs", func() bool {
			_, err := g.try("firewall-cmd", "--state")
			return err == nil
		})
	}
	running()
	zone := func() string { return strings.TrimSpace(g.do("firewall-cmd", "--zone=trusted", "--list-interfaces")) }
	expect(t, "trusted before", zone(), "")
	x := newBeside(w)
	w.watched()
	x.holds("firewalld first")
	g.do("firewall-cmd", "--reload")
	x.holds("reloaded")
	g.do("sh", "-c", "kill $(cat /run/firewalld.pid)")
	eventually(t, "firewalld ends", func() bool {
		_, err := g.try("firewall-cmd", "--state")
		return err != nil
	})
	x.holds("stopped")
	g.do("firewalld")
	running()
	x.holds("started again")
	must(t, w.h.Remove(ctx, "a"))
	must(t, w.h.Remove(ctx, "off"))
	expect(t, "trusted afterwards", zone(), "")
}
