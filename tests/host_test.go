package tests

import (
	"bufio"
	"context"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/keeper/wire"
	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/tests/kernel"
	"github.com/davit-run/davit/tests/residue"
)

// A host is what one test sees as its machine: a network namespace and a davit
// root of its own, and one project.
type host struct {
	t       *testing.T
	bin     string
	root    string
	dir     string // the project's
	project string
	net     *os.File // the host's network namespace
}

// newHost makes a host with busybox and the given compose file. What is left
// behind when the test ends fails it.
func newHost(t *testing.T, project, compose string) *host {
	t.Helper()
	kernel.NeedRoot(t)
	bin, err := kernel.Binaries()
	check(t, err)
	check(t, kernel.Isolate())
	root, err := kernel.Root()
	check(t, err)
	t.Cleanup(func() { check(t, kernel.Scrub(root)) })
	check(t, load(t.Context(), root, "busybox"))
	ns, err := os.Open("/proc/thread-self/ns/net")
	check(t, err)
	t.Cleanup(func() { ns.Close() })
	h := &host{t: t, bin: bin, root: root, dir: t.TempDir(), project: project, net: ns}
	check(t, os.WriteFile(filepath.Join(h.dir, "compose.yaml"), []byte(compose), 0o644))
	residue.Place{Root: root, Projects: []string{project}}.Around(t)
	return h
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// davit runs the CLI on the project and returns what it printed.
func (h *host) davit(args ...string) string {
	h.t.Helper()
	out, err := kernel.Run(context.Background(), h.dir, []string{"DAVIT_ROOT=" + h.root},
		filepath.Join(h.bin, "davit"), append([]string{"-p", h.project}, args...)...)
	if err != nil {
		h.t.Fatalf("davit %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func (h *host) layout() store.Layout {
	return store.Layout{Data: filepath.Join(h.root, "data"), Run: filepath.Join(h.root, "run")}
}

// identity returns which start of which container NAME is.
func (h *host) identity(name string) identity {
	h.t.Helper()
	c, s, err := container(h.root, h.project, name)
	check(h.t, err)
	return identity{c.ID, s.PID, s.StartTicks}
}

// keeper returns the process that answers on the project's socket; 0 when none
// does.
func (h *host) keeper(ctx context.Context) int {
	c, err := wire.Dial(ctx, h.layout(), h.project)
	if err != nil {
		return 0
	}
	defer c.Close()
	pid := 0
	err = c.Call(ctx, wire.Request{Op: wire.OpHello}, func(r wire.Reply, _ []*os.File) error {
		if r.PID != 0 {
			pid = r.PID
		}
		return nil
	})
	if err != nil {
		return 0
	}
	return pid
}

// ours returns the anchor and the keeper, by the word they were started with.
func (h *host) ours() map[string][]int {
	found := map[string][]int{}
	for _, word := range []string{"anchor", "keeper"} {
		found[word] = kernel.Pids(word, h.layout().Data, h.layout().Run, h.project)
	}
	return found
}

// inside runs fn on a thread that is in the host's network namespace. A socket
// that fn makes itself, in no further goroutine, is the host's.
func (h *host) inside(fn func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with fn
		if err := unix.Setns(int(h.net.Fd()), unix.CLONE_NEWNET); err != nil {
			h.t.Errorf("enter the host's network: %v", err)
			return
		}
		fn()
	}()
	<-done
}

// get asks for / over HTTP and returns the whole answer.
func get(address string) (string, error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if _, err := c.Write([]byte("GET / HTTP/1.0\r\n\r\n")); err != nil {
		return "", err
	}
	var b strings.Builder
	if _, err := bufio.NewReader(c).WriteTo(&b); err != nil {
		return "", err
	}
	return b.String(), nil
}
