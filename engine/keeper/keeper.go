package keeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/davit-run/davit/engine/keeper/anchor"
	"github.com/davit-run/davit/engine/keeper/wire"
	"github.com/davit-run/davit/engine/store"
)

// Options are what a keeper works with.
type Options struct {
	Layout  store.Layout
	Project string
	Build   string // which build answers hello

	Keep Keep
	Kept map[string]*os.File // what the keeper before left in the fd store
	Lost <-chan struct{}     // closed when the anchor has died
	Halt <-chan os.Signal    // the host asks for everything to end; nil: it never does

	Runtime  Runtime
	Network  func() (Network, error) // opened when first needed
	Resolver Resolver
	Volumes  Volumes
	Log      func(format string, args ...any)
}

// quiet is how long a keeper that has nothing to keep waits for a client.
const quiet = 500 * time.Millisecond

// ErrAnchorLost is what Run returns when the anchor has died: the caller makes
// this very process the new anchor, because the containers are its children.
var ErrAnchorLost = errors.New("the anchor has died")

// ErrServed is what Run returns when another keeper serves the project.
var ErrServed = errors.New("another keeper serves this project")

// ErrReplaced is what Run returns when a newer build takes over: the anchor
// becomes it, and starts its keeper.
var ErrReplaced = errors.New("a newer build takes over")

// A Keeper looks after the containers of one project.
type Keeper struct {
	o      Options
	ctx    context.Context // ends with the keeper
	cancel context.CancelFunc

	mu         sync.Mutex
	containers map[string]*container
	kept       map[string]*os.File // not adopted yet
	ready      *os.File            // who started the anchor waits there; nil: nobody
	hostMounts *os.File            // the host's mount namespace
	replaced   chan struct{}       // closed when a newer build is to take over
	handOver   sync.Once

	net      networks
	queues   map[string]*queue // by the container that is waited for
	events   hub
	starts   chan struct{} // bounds starts under way
	clients  atomic.Int64
	standing atomic.Int64  // containers that stand by
	changes  atomic.Int64  // requests under way that make or take away
	touched  chan struct{} // something ended: there may be nothing left to keep
	leave    atomic.Bool   // shutdown was asked for
	sweeper  atomic.Bool   // by somebody who removes the project's cgroups
}

// Run keeps the project's containers until nothing is left to keep (nil), the
// anchor is gone (ErrAnchorLost) or it could not begin.
func Run(ctx context.Context, o Options) error {
	lock, err := takeLock(ctx, o)
	if err != nil {
		return err
	}
	defer lock.Release()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	k := &Keeper{
		o: o, ctx: ctx, cancel: cancel, kept: o.Kept,
		containers: make(map[string]*container),
		starts:     make(chan struct{}, 2*runtime.NumCPU()),
		touched:    make(chan struct{}, 1),
		replaced:   make(chan struct{}),
	}
	k.net.open = o.Network
	k.events.past.dir = o.Layout.Project(o.Project)
	k.ready = k.takeKept(anchor.Ready)
	k.hostMounts = k.takeKept(anchor.HostMounts)
	listener, err := k.listen()
	if err != nil {
		return err
	}
	k.recover()
	go k.serve(listener)
	go k.halt()
	k.tellReady("ready")
	err = k.wait()
	if err == nil {
		k.clear(listener, lock)
	}
	return err
}

// takeLock makes this the project's only keeper. One that has just been killed
// holds the lock until its last thread has left the kernel, and one that is
// leaving until it has cleaned up.
func takeLock(ctx context.Context, o Options) (*store.Lock, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := os.MkdirAll(o.Layout.RunProject(o.Project), 0o700); err != nil {
		return nil, fmt.Errorf("make run directory: %w", err)
	}
	lock, err := store.Acquire(ctx, o.Layout.KeeperLock(o.Project))
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, ErrServed
	}
	return lock, err
}

// wait returns when there is nothing left to keep, or the anchor is lost.
func (k *Keeper) wait() error {
	timer := time.NewTimer(quiet)
	for {
		select {
		case <-k.o.Lost:
			if k.leave.Load() && k.alive() == 0 {
				return nil // whoever asked for the end waits for it, and for nobody new
			}
			return ErrAnchorLost
		case <-k.ctx.Done():
			return k.ctx.Err()
		case <-k.replaced:
			return ErrReplaced
		case <-k.touched:
			if k.leave.Load() && k.nothing() {
				return nil
			}
			timer.Reset(quiet)
		case <-timer.C:
			if k.nothing() {
				return nil
			}
		}
	}
}

// halt stops every container once the host asks for it, each as `davit stop`
// does, and lets the keeper end: nothing is started again.
func (k *Keeper) halt() {
	select {
	case <-k.ctx.Done():
		return
	case <-k.o.Halt:
	}
	k.log("the host asks this project to end")
	k.leave.Store(true)
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.containers {
		go func() { _, _ = c.ask(k.ctx, wire.Request{Op: wire.OpStop, ID: c.id}) }()
	}
	k.touch()
}

// touch has wait look again whether anything is left to keep.
func (k *Keeper) touch() {
	select {
	case k.touched <- struct{}{}:
	default:
	}
}

// nothing tells that no container is alive or waiting to be or waited for or
// standing by, and nobody asks.
func (k *Keeper) nothing() bool {
	return k.clients.Load() == 0 && k.alive() == 0 && !k.queued() && k.standing.Load() == 0
}

func (k *Keeper) alive() (n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.containers {
		if c.lives.Load() {
			n++
		}
	}
	return n
}

// listen takes the listening socket from the fd store, where it lies so that
// clients queue while the keeper is replaced, or makes it.
func (k *Keeper) listen() (*net.UnixListener, error) {
	if f := k.takeKept("listen"); f != nil {
		l, err := net.FileListener(f)
		f.Close()
		if l, ok := l.(*net.UnixListener); ok && err == nil {
			l.SetUnlinkOnClose(false)
			return l, nil
		}
	}
	path := k.o.Layout.KeeperSocket(k.o.Project)
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	defer dir.Close()
	_ = os.Remove(path)
	// A socket's path may have 107 bytes only (unix(7)).
	short := fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path))
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: short, Net: "unixpacket"})
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	l.SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	f, err := l.File()
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	defer f.Close()
	return l, k.o.Keep.Put("listen", f)
}

// tellReady answers whoever started the anchor, and waits at the pipe.
func (k *Keeper) tellReady(word string) {
	if k.ready == nil {
		return
	}
	_, _ = k.ready.WriteString(word)
	k.ready.Close()
	_ = k.o.Keep.Drop(anchor.Ready)
}

// takeKept takes a descriptor that the keeper before left.
func (k *Keeper) takeKept(name string) *os.File {
	k.mu.Lock()
	defer k.mu.Unlock()
	f := k.kept[name]
	delete(k.kept, name)
	return f
}

// clear leaves nothing in the run directory but the anchor's lock, which goes
// with it, or with whoever leaves in its place. Whoever connected in the last
// moment sees the connection end, and starts another keeper.
func (k *Keeper) clear(l *net.UnixListener, lock *store.Lock) {
	k.cancel()
	run := k.o.Layout.RunProject(k.o.Project)
	_ = os.Remove(k.o.Layout.KeeperSocket(k.o.Project))
	l.Close()
	_ = os.RemoveAll(k.o.Layout.Exits(k.o.Project))
	_ = os.RemoveAll(filepath.Join(run, "net"))
	for _, dir := range []string{k.o.Layout.RuntimeState(k.o.Project), filepath.Join(run, "rootfs")} {
		_ = os.Remove(dir) // only when empty
	}
	if err := k.o.Keep.Over(k.sweeper.Load()); err != nil {
		k.log("%v", err) // it is dead, and the caller leaves in its place
	}
	if start, err := store.TryAcquire(filepath.Join(run, "start.lock")); err == nil {
		start.ReleaseRemove()
	}
	lock.ReleaseRemove()
}

func (k *Keeper) log(format string, args ...any) {
	if k.o.Log != nil {
		k.o.Log(format, args...)
	}
}
