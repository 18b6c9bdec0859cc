package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/store"
)

// ErrNoKeeper means that no keeper of the project lives.
var ErrNoKeeper = errors.New("no keeper is running")

// ErrLost means that the keeper went away in the middle of an answer that
// cannot be asked for again: what happened meanwhile must be observed anew.
var ErrLost = errors.New("connection to the keeper was lost")

// A Failure is an error that the keeper answered with.
type Failure struct {
	Code string // not-found, conflict, port-taken, refused, or empty
	What string // ready for the user
}

// Error is the keeper's own wording.
func (f *Failure) Error() string { return f.What }

// A Client asks one project's keeper. It may be used by several goroutines:
// every request has its own connection.
type Client struct {
	layout  store.Layout
	project string
	ensure  bool // start a keeper again when it has gone

	mu   sync.Mutex
	idle *net.UnixConn // dialled, not used yet
}

// Dial reaches the keeper of a project; ErrNoKeeper when none lives. A keeper
// that is being replaced counts as living: the connection waits for the next.
func Dial(ctx context.Context, layout store.Layout, project string) (*Client, error) {
	conn, err := dial(ctx, layout, project)
	if err != nil {
		return nil, err
	}
	return &Client{layout: layout, project: project, idle: conn}, nil
}

// dial connects through /proc/self/fd/N, because a socket's path may have 107
// bytes only (unix(7)) and --root may be any directory.
func dial(ctx context.Context, layout store.Layout, project string) (*net.UnixConn, error) {
	path := layout.KeeperSocket(project)
	dir, err := os.OpenFile(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrNoKeeper
	}
	if err != nil {
		return nil, fmt.Errorf("reach keeper of %s: %w", project, err)
	}
	defer dir.Close()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	name := fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path))
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: name, Net: "unixpacket"})
	switch {
	case err == nil:
		return conn, nil
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ECONNREFUSED):
		return nil, ErrNoKeeper
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return nil, fmt.Errorf("reach keeper of %s: it belongs to another user: %w", project, err)
	}
	return nil, fmt.Errorf("reach keeper of %s: %w", project, err)
}

// Close lets go of what the client holds; requests under way are not ended.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idle != nil {
		c.idle.Close()
		c.idle = nil
	}
}

// Call sends a request and hands every reply to each, which owns the files
// beside it; each may be nil. It returns when the keeper is done, when each
// fails, or when ctx ends. An error the keeper answered with is a *Failure.
// Requests that can safely be asked twice survive the keeper's death: they are
// put to its successor.
func (c *Client) Call(ctx context.Context, req Request, each func(Reply, []*os.File) error) error {
	req.Version = Version
	wait := time.Millisecond
	for {
		err := c.once(ctx, req, each)
		if !errors.Is(err, errGone) {
			return err
		}
		if req.Op == OpKill || req.Op == OpWatch {
			return fmt.Errorf("%s: %w", req.Op, ErrLost)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		wait = min(2*wait, 200*time.Millisecond)
	}
}

// errGone: the connection ended before the answer was complete.
var errGone = errors.New("keeper went away")

func (c *Client) once(ctx context.Context, req Request, each func(Reply, []*os.File) error) error {
	conn, err := c.take(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := Send(conn, req); err != nil {
		return c.lost(ctx, err)
	}
	for {
		var r Reply
		files, err := Receive(conn, &r)
		if err != nil {
			return c.lost(ctx, err)
		}
		if r.Error != "" {
			closeAll(files)
			return &Failure{Code: r.Code, What: r.Error}
		}
		if each != nil && !bare(r) {
			if err := each(r, files); err != nil {
				return err
			}
		} else {
			closeAll(files)
		}
		if r.Done {
			return nil
		}
	}
}

// bare tells a reply that says nothing but that all is done.
func bare(r Reply) bool {
	return r.Done && r.State == nil && r.Event == nil && r.Stats == nil && r.Version == 0 && len(r.FDs) == 0 && r.Warning == ""
}

func (c *Client) lost(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ENOTCONN) {
		return errGone
	}
	return fmt.Errorf("talk to keeper of %s: %w", c.project, err)
}

func (c *Client) take(ctx context.Context) (*net.UnixConn, error) {
	c.mu.Lock()
	conn := c.idle
	c.idle = nil
	c.mu.Unlock()
	if conn != nil {
		return conn, nil
	}
	conn, err := dial(ctx, c.layout, c.project)
	if errors.Is(err, ErrNoKeeper) && c.ensure {
		return ensure(ctx, c.layout, c.project)
	}
	return conn, err
}
