package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/keeper"
	"github.com/davit-run/davit/engine/keeper/anchor"
	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/engine/volume"
	"github.com/davit-run/davit/netdns/attach"
)

const (
	storeFD  = 3       // the anchor's fd store
	maxLog   = 4 << 20 // bytes of keeper.log
	gcEvery  = 100     // percent of growth between collections: memory counts here, not speed
	heapGoal = 24 << 20
)

// keeperMain is `davit-runtime keeper DATA RUN PROJECT`, started by an anchor.
func keeperMain(args []string) int {
	if len(args) != 3 {
		return usage()
	}
	debug.SetGCPercent(gcEvery)
	debug.SetMemoryLimit(heapGoal)
	layout, project := store.Layout{Data: args[0], Run: args[1]}, args[2]
	done := make(chan int)
	// The main thread only waits: see init.
	go func() { done <- keep(layout, project) }()
	return <-done
}

func keep(layout store.Layout, project string) int {
	boundLog()
	conn, kept, err := anchor.Connect(storeFD)
	if err != nil {
		say("%v", err)
		return 1
	}
	fds := &mirror{Conn: conn, files: make(map[string]*os.File)}
	fds.remember(kept)
	vols, where := volume.Open(layout), findPlace(layout, project, conn.Anchor())
	known := &names{rec: layout.Records()}
	err = keeper.Run(context.Background(), keeper.Options{
		Layout: layout, Project: project, Build: version,
		Keep: fds, Kept: kept, Lost: conn.Lost(), Halt: halt(),
		Runtime:  &containers{layout: layout, project: project, volumes: vols, place: where},
		Network:  func() (keeper.Network, error) { return openNetwork(layout, known) },
		Resolver: known,
		Volumes:  &anonymous{layout, vols},
		Log:      say,
	})
	switch {
	case err == nil:
		fds.ready(nil)
		leaveFor(conn, layout, project)
		return 0
	case errors.Is(err, keeper.ErrServed) && strangerTo(kept):
		fds.ready(err)
		return 0
	case errors.Is(err, keeper.ErrAnchorLost):
		say("%v; taking its place", err)
		fds.become(layout, project)
		return 1
	}
	say("%v", err)
	if errors.Is(err, keeper.ErrReplaced) {
		return 1
	}
	fds.ready(err)
	return 1
}

// halt receives SIGTERM where systemd runs: it sends that to everybody in a unit
// that is being stopped, and before the host goes down (systemd.kill(5)).
// Elsewhere a keeper dies of it, and the next one goes on.
func halt() <-chan os.Signal {
	if !anchor.Booted() {
		return nil
	}
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, unix.SIGTERM)
	return asked
}

// strangerTo tells a keeper to whom nothing was handed but what whoever started
// its anchor passed: the project is another anchor's. To one that was handed
// pipes and sockets the project belongs, whoever holds the lock just now, and
// its anchor must not leave with them.
func strangerTo(kept map[string]*os.File) bool {
	for name := range kept {
		if name != anchor.Ready && name != anchor.HostMounts {
			return false
		}
	}
	return true
}

// leaveFor does what an anchor does last, for one that has died meanwhile.
func leaveFor(conn *anchor.Conn, layout store.Layout, project string) {
	select {
	case <-conn.Lost():
		anchor.Leave(layout, project)
	default:
	}
}

func openNetwork(layout store.Layout, known *names) (keeper.Network, error) {
	if err := (stepNetwork{layout}).clean(); err != nil {
		say("clean up after killed builds: %v", err)
	}
	h, err := attach.New(layout.Records())
	if err != nil {
		return nil, err
	}
	return &network{h, known}, nil
}

// boundLog begins keeper.log anew when it has grown too large.
func boundLog() {
	var st unix.Stat_t
	if unix.Fstat(2, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFREG && st.Size > maxLog {
		_ = unix.Ftruncate(2, 0)
	}
}

func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s keeper: %s\n", time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), fmt.Sprintf(format, args...))
}

// A mirror remembers descriptors that lie in the anchor's store, so that this
// process can take the anchor's place when that dies.
type mirror struct {
	*anchor.Conn
	mu    sync.Mutex
	files map[string]*os.File
}

func (m *mirror) remember(files map[string]*os.File) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, f := range files {
		if old := m.files[name]; old != nil {
			old.Close()
			delete(m.files, name)
		}
		if g, err := duplicate(f); err == nil {
			m.files[name] = g
		}
	}
}

func duplicate(f *os.File) (g *os.File, err error) {
	rc, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	cerr := rc.Control(func(fd uintptr) {
		var n int
		if n, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 10); err == nil {
			g = os.NewFile(uintptr(n), f.Name())
		}
	})
	return g, errors.Join(cerr, err)
}

// Put keeps a file with the anchor and here.
func (m *mirror) Put(name string, f *os.File) error {
	return m.PutAll(map[string]*os.File{name: f})
}

// PutAll keeps several.
func (m *mirror) PutAll(files map[string]*os.File) error {
	m.remember(files)
	return m.Conn.PutAll(files)
}

// Drop forgets, there and here.
func (m *mirror) Drop(prefixes ...string) error {
	m.mu.Lock()
	for name, f := range m.files {
		for _, p := range prefixes {
			if len(name) >= len(p) && name[:len(p)] == p {
				f.Close()
				delete(m.files, name)
				break
			}
		}
	}
	m.mu.Unlock()
	return m.Conn.Drop(prefixes...)
}

// ready tells whoever waits that this keeper will not serve, and why.
func (m *mirror) ready(err error) {
	m.mu.Lock()
	f := m.files[anchor.Ready]
	m.mu.Unlock()
	if f == nil {
		return
	}
	word := "ready" // another keeper serves
	if err != nil && !errors.Is(err, keeper.ErrServed) {
		word = err.Error()
	}
	_, _ = f.WriteString(word)
}

// become makes this process the anchor, with everything that was kept: the
// containers are its children, and stay so.
func (m *mirror) become(layout store.Layout, project string) {
	exe, err := os.Open("/proc/self/exe")
	if err != nil {
		say("become the anchor: %v", err)
		return
	}
	args := []string{filepath.Base(os.Args[0]), "anchor", layout.Data, layout.Run, project}
	m.mu.Lock()
	for name, f := range m.files {
		args = append(args, strconv.Itoa(int(f.Fd()))+"="+name)
	}
	say("become the anchor: %v", anchor.Become(int(exe.Fd()), args))
}
