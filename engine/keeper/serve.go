package keeper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/keeper/wire"
	"github.com/davit-run/davit/engine/store"
)

// A refusal is an error with the word callers branch on.
type refusal struct {
	code string
	err  error
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }
func (r *refusal) Code() string  { return r.code }

func refuse(code, format string, args ...any) error {
	return &refusal{code, fmt.Errorf(format, args...)}
}

// serve answers clients until the listener is closed.
func (k *Keeper) serve(l *net.UnixListener) {
	for {
		conn, err := l.AcceptUnix()
		if errors.Is(err, net.ErrClosed) || k.ctx.Err() != nil {
			return
		}
		if err != nil {
			k.log("accept: %v", err)
			time.Sleep(50 * time.Millisecond) // out of descriptors, most likely
			continue
		}
		k.clients.Add(1)
		k.changes.Add(1) // until it is known to change nothing
		go func() {
			defer func() {
				conn.Close()
				k.clients.Add(-1)
				k.touch()
			}()
			k.client(conn)
		}()
	}
}

// client answers one connection's request.
func (k *Keeper) client(conn *net.UnixConn) {
	if err := sameUser(conn); err != nil {
		k.changes.Add(-1)
		k.log("refused a client: %v", err)
		return
	}
	_ = conn.SetReadDeadline(time.Now().Add(time.Minute))
	var req wire.Request
	files, err := wire.Receive(conn, &req)
	defer closeFiles(files)
	if err == nil && makes(req.Op) {
		defer k.changes.Add(-1)
	} else {
		k.changes.Add(-1)
	}
	if err != nil {
		return
	}
	_ = conn.SetReadDeadline(time.Time{})
	ctx, cancel := context.WithCancel(k.ctx)
	defer cancel()
	if req.Op == wire.OpWatch || req.Op == wire.OpWait || req.Op == wire.OpSettle {
		go func() { // a caller says nothing more: only its leaving is read here
			var none struct{}
			_, _ = wire.Receive(conn, &none)
			cancel()
		}()
	}
	if err := k.answer(ctx, conn, req, files); err != nil && ctx.Err() == nil {
		r := wire.Reply{Done: true, Error: err.Error(), ID: req.ID}
		var coded interface{ Code() string }
		if errors.As(err, &coded) {
			r.Code = coded.Code()
		}
		_ = wire.Send(conn, r)
	}
}

// makes tells the requests that make or take away what others plan by.
func makes(op string) bool {
	switch op {
	case wire.OpStart, wire.OpStop, wire.OpRemove, wire.OpNetwork, wire.OpNetRemove:
		return true
	}
	return false
}

// longestSettle is Docker's grace period, and a little.
const longestSettle = defaultGrace + 2*time.Second

// settle answers once everything is over that came before it and makes or
// takes away: a command that was killed may have left such, and whoever plans
// next must see what comes of it.
func (k *Keeper) settle(ctx context.Context, conn *net.UnixConn) error {
	over := time.NewTimer(longestSettle)
	defer over.Stop()
	for wait := time.Millisecond; k.changes.Load() > 0; wait = min(2*wait, 20*time.Millisecond) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-over.C: // somebody is being given a long grace period
			return wire.Send(conn, wire.Reply{Done: true, Version: wire.Version, PID: os.Getpid(), Build: k.o.Build})
		case <-time.After(wait):
		}
	}
	return wire.Send(conn, wire.Reply{Done: true, Version: wire.Version, PID: os.Getpid(), Build: k.o.Build})
}

// sameUser holds the socket's permissions up once more: only the user whose
// keeper this is, and the superuser, may ask (CVE-2020-15257's class).
func sameUser(conn *net.UnixConn) error {
	rc, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var cred *unix.Ucred
	var cerr error
	if err := rc.Control(func(fd uintptr) {
		cred, cerr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return err
	}
	if cerr != nil {
		return cerr
	}
	if cred.Uid != 0 && int(cred.Uid) != os.Geteuid() {
		return fmt.Errorf("user %d", cred.Uid)
	}
	return nil
}

func (k *Keeper) answer(ctx context.Context, conn *net.UnixConn, req wire.Request, files []*os.File) error {
	if req.Version != wire.Version && req.Op != wire.OpHello && req.Op != wire.OpUpgrade {
		return refuse("refused", "this keeper speaks protocol %d, not %d", wire.Version, req.Version)
	}
	switch req.Op {
	case wire.OpHello:
		return wire.Send(conn, wire.Reply{Done: true, Version: wire.Version, PID: os.Getpid(), Build: k.o.Build})
	case wire.OpStatus:
		return k.status(conn, req.ID)
	case wire.OpWatch:
		return k.watch(ctx, conn)
	case wire.OpNetwork:
		return k.done(conn, k.ensureNetwork(ctx, req.Network))
	case wire.OpNetRemove:
		return k.done(conn, k.removeNetwork(ctx, req.Network))
	case wire.OpShutdown:
		return k.shutdown(conn, req.Sweep)
	case wire.OpSettle:
		return k.settle(ctx, conn)
	case wire.OpUpgrade:
		return k.replace(conn, files)
	case wire.OpRepair:
		return k.repair(ctx, conn)
	case wire.OpStats:
		return k.stats(ctx, conn, req)
	case wire.OpWait:
		if req.Hold {
			return k.hold(ctx, conn, req)
		}
	}
	return k.container(ctx, conn, req)
}

func (k *Keeper) done(conn *net.UnixConn, err error) error {
	if err != nil {
		return err
	}
	return wire.Send(conn, wire.Reply{Done: true})
}

// status tells what is known of one container, or of all.
func (k *Keeper) status(conn *net.UnixConn, id string) error {
	k.mu.Lock()
	var all []*container
	for _, c := range k.containers {
		if id == "" || c.id == id {
			all = append(all, c)
		}
	}
	k.mu.Unlock()
	for _, c := range all {
		s := c.snapshot.Load()
		if s == nil {
			continue
		}
		if err := wire.Send(conn, wire.Reply{ID: c.id, Name: c.name(), State: s}); err != nil {
			return err
		}
	}
	return wire.Send(conn, wire.Reply{Done: true})
}

func (k *Keeper) watch(ctx context.Context, conn *net.UnixConn) error {
	events, done := k.events.watch()
	defer done()
	// Who only looks on keeps nothing alive: down would wait for them for ever.
	k.clients.Add(-1)
	defer k.clients.Add(1)
	k.touch()
	// The first reply says that from here on nothing is missed.
	if err := wire.Send(conn, wire.Reply{Version: wire.Version, At: time.Now().UTC()}); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case e, ok := <-events:
			if !ok {
				return refuse("refused", "the reader of events is too slow: %d were waiting", backlog)
			}
			if err := wire.Send(conn, wire.Reply{Event: &e}); err != nil {
				return err
			}
		}
	}
}

func (k *Keeper) shutdown(conn *net.UnixConn, sweep bool) error {
	if n := k.alive(); n > 0 {
		return refuse("conflict", "%d containers of project %s are running", n, k.o.Project)
	}
	k.sweeper.Store(sweep)
	k.leave.Store(true)
	k.sendAllAway()
	select {
	case <-k.o.Lost: // it may be too late for wait to see it: the next one is asked
		return nil
	default:
	}
	return wire.Send(conn, wire.Reply{Done: true})
}

// container hands a request to the goroutine of its container.
func (k *Keeper) container(ctx context.Context, conn *net.UnixConn, req wire.Request) error {
	c, err := k.find(req)
	if err != nil {
		return err
	}
	if c == nil { // removed already: what remove wanted is so
		return wire.Send(conn, wire.Reply{Done: true})
	}
	a, err := c.ask(ctx, req)
	defer closeFiles(a.files)
	if err != nil {
		return err
	}
	return wire.Send(conn, wire.Reply{Done: true, ID: c.id, Name: c.name(), State: a.state,
		FDs: a.names, Warning: a.warning, At: time.Now().UTC()}, a.files...)
}

// find returns the container that a request is about, reading its record when
// it is new here. Remove works on a container whose record is damaged, and on
// one that is gone (nil).
func (k *Keeper) find(req wire.Request) (*container, error) {
	id := req.ID
	if !validID(id) {
		return nil, refuse("not-found", "container %.80q: not an id", id)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if c := k.containers[id]; c != nil {
		return c, nil
	}
	rec, err := k.o.Layout.LoadContainer(k.o.Project, id)
	removing := req.Op == wire.OpRemove
	switch {
	case err == nil:
	case !removing && errors.Is(err, store.ErrNotFound):
		return nil, refuse("not-found", "no such container: %s", id)
	case !removing:
		return nil, err
	default:
		rec = &engine.Container{ID: id, Name: short(id), Project: k.o.Project}
	}
	c := k.adopt(rec, err)
	if err == nil && c.state.Status == engine.Created {
		c.event("create", "")
	}
	go c.run()
	return c, nil
}

// validID holds ids to what may be a file's name.
func validID(id string) bool {
	if id == "" || len(id) > 64 {
		return false
	}
	for _, r := range id {
		if (r < '0' || r > '9') && (r < 'a' || r > 'f') {
			return false
		}
	}
	return true
}

// short is the id as people see it.
func short(id string) string { return id[:min(12, len(id))] }

func closeFiles(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
