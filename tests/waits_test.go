package tests

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/tests/kernel"
)

// Somebody who asks for the page of examples/visits again and again, over either
// family of addresses, sees no request fail while its container is rebuilt by the
// watcher, made anew by up, and restarted: they wait.
func TestRequestsWaitWhileTheContainerIsReplaced(t *testing.T) {
	h := newHost(t, "waits", "")
	check(t, load(t.Context(), h.root, "node", "redis"))
	check(t, os.Remove(filepath.Join(h.dir, "compose.yaml")))
	check(t, os.CopyFS(h.dir, os.DirFS(filepath.Join(h.bin, "../examples/visits"))))
	check(t, os.WriteFile(filepath.Join(h.dir, ".env"), []byte("BASE=node\n"), 0o644))
	page := filepath.Join(h.dir, "web/server.js")
	source, err := os.ReadFile(page)
	check(t, err)
	h.davit("up", "-d", "--watch")
	t.Cleanup(func() { h.davit("down", "-v", "-t", "1", "--rmi", "local") })
	visitors := h.visit("127.0.0.1:8080", "[::1]:8080")
	visitors.see(t, "was visited")
	visitors.forgive() // who came before there was anything
	for i := range 2 {
		word := fmt.Sprintf("was (edit %d) visited", i)
		saved := filepath.Join(t.TempDir(), "server.js") // as editors do: there is never half a page
		check(t, os.WriteFile(saved, []byte(strings.Replace(string(source), "was visited", word, 1)), 0o644))
		check(t, os.Rename(saved, page))
		visitors.see(t, word)
	}
	first := h.identity("web-1")
	h.davit("up", "-d", "--no-build", "--force-recreate", "--no-deps", "web")
	second := h.identity("web-1")
	h.davit("restart", "web")
	if third := h.identity("web-1"); first.id == second.id || second == third {
		t.Errorf("not replaced and restarted: %v, %v, %v", first, second, third)
	}
	visitors.see(t, "was (edit 1) visited")
	visitors.leave(t)
	h.sendsAway(t)
}

// sendsAway replaces the container by one that does not start: who asks is
// refused, and does not wait for it.
func (h *host) sendsAway(t *testing.T) {
	file := filepath.Join(h.dir, "compose.yaml")
	compose, err := os.ReadFile(file)
	check(t, err)
	check(t, os.WriteFile(file, []byte(strings.Replace(string(compose), "    init: true\n", "    command: /none/such\n", 1)), 0o644))
	defer func() { check(t, os.WriteFile(file, compose, 0o644)) }()
	out, err := kernel.Run(t.Context(), h.dir, []string{"DAVIT_ROOT=" + h.root}, filepath.Join(h.bin, "davit"),
		"-p", h.project, "up", "-d", "--no-build")
	if err == nil || !strings.Contains(out, "/none/such") {
		t.Errorf("a container without a program: %v\n%s", err, out)
	}
	h.inside(func() {
		if said, err := get("127.0.0.1:8080"); !errors.Is(err, unix.ECONNREFUSED) {
			t.Errorf("%q, %v; want to be refused", said, err)
		}
		l, err := net.Listen("tcp", ":8080")
		if err != nil {
			t.Errorf("the port is not free: %v", err)
			return
		}
		l.Close()
	})
}

// visitors ask for a page again and again, each on a new connection.
type visitors struct {
	leaving context.CancelFunc
	gone    sync.WaitGroup

	mu      sync.Mutex
	last    map[string]string // by address
	asked   int
	longest time.Duration
	failed  []string
}

func (h *host) visit(addresses ...string) *visitors {
	ctx, cancel := context.WithCancel(context.Background())
	v := &visitors{leaving: cancel, last: map[string]string{}}
	h.t.Cleanup(cancel)
	for _, a := range addresses {
		v.gone.Go(func() {
			h.inside(func() {
				for ctx.Err() == nil {
					begin := time.Now()
					said, err := get(a)
					v.note(a, said, err, time.Since(begin))
				}
			})
		})
	}
	return v
}

func (v *visitors) note(address, said string, err error, took time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.asked++
	v.longest = max(v.longest, took)
	v.last[address] = said
	if len(v.last[address]) == 0 || err != nil || !strings.Contains(said, " visited ") {
		v.failed = append(v.failed, fmt.Sprintf("request %d, to %s after %s: %q, %v", v.asked, address, took, said, err))
	}
}

// see waits until all of them are shown what contains a text.
func (v *visitors) see(t *testing.T, text string) {
	t.Helper()
	kernel.Eventually(t, 3*patience, "visitors see "+text, func() bool {
		v.mu.Lock()
		defer v.mu.Unlock()
		for _, said := range v.last {
			if !strings.Contains(said, text) {
				return false
			}
		}
		return len(v.last) == 2
	})
}

// forgive forgets what failed so far.
func (v *visitors) forgive() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.asked, v.longest, v.failed = 0, 0, nil
}

// leave ends the visits, and fails the test if one of them came to nothing.
func (v *visitors) leave(t *testing.T) {
	t.Helper()
	v.leaving()
	v.gone.Wait()
	t.Logf("%d requests, the longest took %s", v.asked, v.longest)
	if len(v.failed) > 0 {
		t.Errorf("%d of %d requests failed:\n%s", len(v.failed), v.asked, strings.Join(v.failed, "\n"))
	}
}
