package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/store"
)

// longLayout lies deeper than a socket's path may be long.
func longLayout(t *testing.T) store.Layout {
	dir := filepath.Join(t.TempDir(), strings.Repeat("a", 100), strings.Repeat("b", 100))
	return store.Layout{Data: filepath.Join(dir, "data"), Run: filepath.Join(dir, "run")}
}

// serve answers every connection with f on a project's socket.
func serve(t *testing.T, l store.Layout, f func(*net.UnixConn, Request)) *net.UnixListener {
	t.Helper()
	path := l.KeeperSocket("p")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(path)
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	s, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: fmt.Sprintf("/proc/self/fd/%d/keeper.sock", dir.Fd()), Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	s.SetUnlinkOnClose(false)
	t.Cleanup(func() { s.Close() })
	go func() {
		for {
			c, err := s.AcceptUnix()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				var r Request
				if _, err := Receive(c, &r); err == nil {
					f(c, r)
				}
			}()
		}
	}()
	return s
}

func TestDialWithoutAKeeper(t *testing.T) {
	l := longLayout(t)
	if _, err := Dial(t.Context(), l, "p"); !errors.Is(err, ErrNoKeeper) {
		t.Fatalf("no directory: %v", err)
	}
	s := serve(t, l, nil)
	s.Close()
	if _, err := Dial(t.Context(), l, "p"); !errors.Is(err, ErrNoKeeper) {
		t.Fatalf("a socket that nobody listens on: %v", err)
	}
}

func TestCallHandsOverRepliesAndDescriptors(t *testing.T) {
	l := longLayout(t)
	serve(t, l, func(c *net.UnixConn, r Request) {
		f, _ := os.Open("/proc/self/status")
		defer f.Close()
		_ = Send(c, Reply{ID: r.ID, State: &engine.State{Status: engine.Running}})
		_ = Send(c, Reply{Done: true, FDs: []string{"stdin"}}, f)
	})
	c, err := Dial(t.Context(), l, "p")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time on a connection of its own
		n, content := 0, make([]byte, 5)
		err = c.Call(t.Context(), Request{Op: OpStatus, ID: "x"}, func(r Reply, files []*os.File) error {
			if n++; n == 2 {
				_, err := files[0].Read(content)
				files[0].Close()
				return err
			}
			if r.ID != "x" || r.State.Status != engine.Running {
				t.Errorf("reply %+v", r)
			}
			return nil
		})
		if err != nil || n != 2 || string(content) != "Name:" {
			t.Fatalf("%d replies, %q, %v", n, content, err)
		}
	}
}

func TestAFailureCarriesItsCode(t *testing.T) {
	l := longLayout(t)
	serve(t, l, func(c *net.UnixConn, r Request) {
		_ = Send(c, Reply{Done: true, Error: "port 80 is taken", Code: "port-taken"})
	})
	c, err := Dial(t.Context(), l, "p")
	if err != nil {
		t.Fatal(err)
	}
	var f *Failure
	if err := c.Call(t.Context(), Request{Op: OpStart}, nil); !errors.As(err, &f) || f.Code != "port-taken" || f.Error() != "port 80 is taken" {
		t.Fatal(err)
	}
}

func TestARequestSurvivesItsKeeper(t *testing.T) {
	l := longLayout(t)
	n := 0
	serve(t, l, func(c *net.UnixConn, r Request) {
		if n++; n < 3 {
			return // dies before it answers
		}
		_ = Send(c, Reply{Done: true})
	})
	c, err := Dial(t.Context(), l, "p")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Call(t.Context(), Request{Op: OpStop}, nil); err != nil || n != 3 {
		t.Fatalf("after %d connections: %v", n, err)
	}
	n = 0
	if err := c.Call(t.Context(), Request{Op: OpKill}, nil); !errors.Is(err, ErrLost) {
		t.Fatalf("a signal was sent twice, perhaps: %v", err)
	}
}

func TestACallEndsWithItsContext(t *testing.T) {
	l := longLayout(t)
	hold := make(chan struct{})
	defer close(hold)
	serve(t, l, func(*net.UnixConn, Request) { <-hold })
	c, err := Dial(t.Context(), l, "p")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := c.Call(ctx, Request{Op: OpWait}, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
}

func TestMessagesAreBounded(t *testing.T) {
	l := longLayout(t)
	got := make(chan error, 1)
	serve(t, l, func(c *net.UnixConn, r Request) { got <- nil; _ = Send(c, Reply{Done: true}) })
	c, err := Dial(t.Context(), l, "p")
	if err != nil {
		t.Fatal(err)
	}
	err = c.Call(t.Context(), Request{Op: OpStart, Reason: strings.Repeat("x", MaxMessage)}, nil)
	if err == nil || !strings.Contains(err.Error(), "larger") {
		t.Fatalf("a message larger than the protocol allows: %v", err)
	}
	if err := c.Call(t.Context(), Request{Op: OpStart, Reason: strings.Repeat("x", MaxMessage/2)}, nil); err != nil {
		t.Fatalf("one that is not: %v", err)
	}
}
