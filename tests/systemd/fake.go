package systemd

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/tests/kernel"
)

// A Fake is a manager of units for the calling goroutine's mount namespace and
// the processes started there. Its units are groups below davit.slice in every
// hierarchy of the host; like systemd's they go when the last process leaves.
type Fake struct {
	t     testing.TB
	tops  []string // where hierarchies are mounted
	mu    sync.Mutex
	units map[string]*unit
	made  []string // all scopes that ever were
	conns []net.Conn
	job   uint32
	mute  bool
}

type unit struct{ properties map[string]dbus.Variant }

// Start mounts an empty /run, in a mount namespace of this goroutine's own,
// with systemd's socket in it. The goroutine stays on its thread.
func Start(t testing.TB) *Fake {
	t.Helper()
	kernel.NeedRoot(t)
	if err := kernel.OwnMounts(); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll("/run/systemd/system", 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", "/run/systemd/private")
	if err != nil {
		t.Fatal(err)
	}
	f := &Fake{t: t, tops: hierarchies(t), units: make(map[string]*unit)}
	stop := make(chan struct{})
	var over sync.WaitGroup
	over.Go(func() { f.accept(l) })
	over.Go(func() { f.collect(stop) })
	t.Cleanup(func() {
		close(stop)
		l.Close()
		f.mu.Lock()
		for _, c := range f.conns {
			c.Close()
		}
		f.mu.Unlock()
		over.Wait()
		if err := unix.Unmount("/run", unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return f
}

// hierarchies are where cgroup file systems are mounted that take a process
// into a fresh group: not v1's cpuset.
func hierarchies(t testing.TB) (tops []string) {
	table, err := os.ReadFile("/proc/thread-self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(table)) {
		before, after, _ := strings.Cut(line, " - ")
		where, what := strings.Fields(before), strings.Fields(after)
		if strings.HasPrefix(what[0], "cgroup") && where[3] == "/" && !strings.Contains(what[2], "cpuset") {
			tops = append(tops, where[4])
		}
	}
	if len(tops) == 0 {
		t.Skip("no cgroups are mounted here")
	}
	return tops
}

// Mute has it take connections and answer nothing.
func (f *Fake) Mute() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.mute = true
}

// Units names the units there are, the slice among them.
func (f *Fake) Units() (names []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name := range f.units {
		names = append(names, name)
	}
	return names
}

// Made names every scope that was ever made.
func (f *Fake) Made() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.made...)
}

// Stop does as `systemctl stop` does: SIGTERM to every process of the scope
// (systemd.kill(5)), and waits until it has ended.
func (f *Fake) Stop(scope string) {
	for _, pid := range f.processes(scope) {
		_ = unix.Kill(pid, unix.SIGTERM)
	}
	kernel.Eventually(f.t, time.Minute, scope+" has ended", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.units[scope] == nil
	})
}

// accept serves every connection until the listener is closed.
func (f *Fake) accept(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		f.mu.Lock()
		f.conns = append(f.conns, conn)
		f.mu.Unlock()
		go f.serve(conn)
	}
}

// serve answers one client. The first message, which came with the end of the
// authentication, it leaves lying until there is another: so does systemd 252.
func (f *Fake) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	if !f.authenticate(in, conn) {
		return
	}
	if _, err := in.Peek(1); err != nil {
		return
	}
	held, err := dbus.DecodeMessage(in)
	if err != nil {
		return
	}
	for {
		m, err := dbus.DecodeMessage(in)
		if err != nil {
			return
		}
		if held != nil {
			f.answer(conn, held)
			held = nil
		}
		f.answer(conn, m)
	}
}

// authenticate is the server's side of SASL's EXTERNAL (D-Bus specification,
// "Authentication Protocol").
func (f *Fake) authenticate(in *bufio.Reader, conn net.Conn) bool {
	for {
		line, err := in.ReadString('\n')
		f.mu.Lock()
		mute := f.mute
		f.mu.Unlock()
		if err != nil {
			return false
		}
		if mute {
			continue
		}
		reply := "ERROR"
		switch words := strings.Fields(strings.TrimLeft(line, "\x00")); {
		case len(words) == 1 && words[0] == "AUTH":
			reply = "REJECTED EXTERNAL"
		case len(words) > 0 && words[0] == "AUTH":
			reply = "OK 0123456789abcdef0123456789abcdef"
		case len(words) > 0 && words[0] == "BEGIN":
			return true
		}
		fmt.Fprintf(conn, "%s\r\n", reply)
	}
}

// answer does what one call asks for.
func (f *Fake) answer(conn net.Conn, m *dbus.Message) {
	member, _ := m.Headers[dbus.FieldMember].Value().(string)
	path, _ := m.Headers[dbus.FieldPath].Value().(dbus.ObjectPath)
	body, signal, fault := f.do(member, path, m.Body)
	reply := &dbus.Message{Type: dbus.TypeMethodReply, Headers: map[dbus.HeaderField]dbus.Variant{
		dbus.FieldReplySerial: dbus.MakeVariant(m.Serial()),
	}, Body: body}
	if fault != "" {
		reply.Type, reply.Body = dbus.TypeError, []any{fault}
		reply.Headers[dbus.FieldErrorName] = dbus.MakeVariant(service + "." + fault)
	}
	f.send(conn, reply)
	if signal != nil {
		f.send(conn, &dbus.Message{Type: dbus.TypeSignal, Headers: map[dbus.HeaderField]dbus.Variant{
			dbus.FieldPath:      dbus.MakeVariant(dbus.ObjectPath("/org/freedesktop/systemd1")),
			dbus.FieldInterface: dbus.MakeVariant(service + ".Manager"),
			dbus.FieldMember:    dbus.MakeVariant("JobRemoved"),
		}, Body: signal})
	}
}

func (f *Fake) send(conn net.Conn, m *dbus.Message) {
	if len(m.Body) > 0 {
		m.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(m.Body...))
	}
	if err := m.EncodeTo(conn, binary.LittleEndian); err != nil {
		f.t.Logf("systemd's reply: %v", err)
	}
}

// collect ends the scopes that nobody is in any more, and then the slice.
func (f *Fake) collect(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(5 * time.Millisecond):
		}
		f.mu.Lock()
		scopes := 0
		for name := range f.units {
			if name == slice {
				continue
			}
			if len(f.processes(name)) == 0 && f.trim(name) {
				delete(f.units, name)
			} else {
				scopes++
			}
		}
		if u := f.units[slice]; scopes == 0 && u != nil && u.properties["StopWhenUnneeded"].Value() == true {
			for _, top := range f.tops { // another test's manager may have units there
				_ = unix.Rmdir(filepath.Join(top, slice))
			}
			delete(f.units, slice)
		}
		f.mu.Unlock()
	}
}

// trim removes a scope's groups, from the deepest up, and says whether they have
// gone: one that a process is just leaving cannot be removed yet.
func (f *Fake) trim(scope string) (gone bool) {
	gone = true
	for _, top := range f.tops {
		for _, pattern := range []string{"*", ""} {
			dirs, _ := filepath.Glob(filepath.Join(top, slice, scope, pattern))
			for _, d := range dirs {
				if err := unix.Rmdir(d); errors.Is(err, unix.EBUSY) || errors.Is(err, unix.ENOTEMPTY) {
					gone = false
				}
			}
		}
	}
	return gone
}
