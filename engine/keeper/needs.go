package keeper

import (
	"context"
	"os"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/netdns"
)

// A Launch is what a container's process begins with.
type Launch struct {
	Container             *engine.Container
	NetNS                 *os.File // nil: the host's network
	HostMounts            *os.File // the host's mount namespace; nil: nobody kept it
	Stdin, Stdout, Stderr *os.File // the container's ends; nil with a terminal, and for no input
	// Joins are the first processes of containers whose namespaces are shared,
	// by id.
	Joins map[string]int
	// Word is waited for once the process stands ready, before its program
	// begins; nil: it begins at once.
	Word func(ctx context.Context) error
}

// Runtime makes a container's process. Every method is for one container at a
// time; different containers may be started at once.
type Runtime interface {
	// Start returns when the container's own program runs. On an error nothing
	// of the attempt is left.
	Start(ctx context.Context, l Launch) (Process, error)
	// Adopt finds a running container whose keeper died.
	Adopt(id string) (Process, error)
	// Clean destroys whatever is left of a container; idempotent.
	Clean(id string) error
	// OOMKilled tells whether the kernel killed a process of a container that
	// has ended for want of memory; no where nobody knows.
	OOMKilled(id string) bool
	// Left names the containers that have something in the kernel.
	Left() ([]string, error)
	// Exec runs a further process, until it ends or ctx does, and then kills
	// whatever it left. At most limit bytes of its output are returned.
	Exec(ctx context.Context, c *engine.Container, e engine.Exec, limit int) (code int, output []byte, err error)
}

// A Process is a container's first process, and through its cgroup all others.
type Process interface {
	PID() int
	// Console is the master of its terminal; nil without one.
	Console() *os.File
	// Warnings are for the user: what the host could not give.
	Warnings() []string
	Signal(unix.Signal) error
	// KillAll sends SIGKILL to every process of the container; idempotent.
	KillAll() error
	Pause() error
	Resume() error
	// OOMKilled tells whether the kernel killed one for want of memory.
	OOMKilled() bool
	// Reap takes the process, which has ended, off the process table if it is
	// this keeper's child: how it ended must have been recorded.
	Reap() error
	// Destroy takes away what is left after the process has ended and was
	// reaped; idempotent.
	Destroy() error
}

// Network connects containers, as netdns/attach does: every method but Sandbox
// is idempotent.
type Network interface {
	Ensure(ctx context.Context, n netdns.Network) (netdns.Network, error)
	Remove(ctx context.Context, name string) error
	Sandbox(ctx context.Context) (*os.File, error)
	Attach(ctx context.Context, ns *os.File, ep netdns.Endpoint) (netdns.Endpoint, error)
	Detach(ctx context.Context, ep netdns.Endpoint) error
	// Publish takes reservations that were suspended over; see suspender.
	Publish(ctx context.Context, ps []netdns.Publication, suspended ...*os.File) ([]netdns.Publication, []*os.File, error)
	Unpublish(ctx context.Context, ps []netdns.Publication) error
	Watch(ctx context.Context) error
	Recover(ctx context.Context) error
}

// An Asker is the container whose questions a resolver answers.
type Asker struct {
	Container *engine.Container
	Endpoints []netdns.Endpoint
	NetNS     *os.File
	Internal  bool // none of its networks leads out
}

// Resolver answers a container's name queries.
type Resolver interface {
	// Open makes the sockets inside a network namespace; they are the caller's.
	Open(ns *os.File) (udp, tcp *os.File, err error)
	// Serve answers until ctx ends. It leaves the sockets open.
	Serve(ctx context.Context, udp, tcp *os.File, who Asker) error
}

// Volumes removes the volumes that go with a container.
type Volumes interface {
	// RemoveAnonymous removes a volume if it is an anonymous one that no other
	// container than except has; idempotent.
	RemoveAnonymous(name, except string) error
}

// Keep is the fd store of the anchor.
type Keep interface {
	Put(name string, f *os.File) error
	PutAll(files map[string]*os.File) error
	Drop(prefixes ...string) error
	// Replace makes program what anchor and keeper run once this keeper ends.
	Replace(program *os.File) error
	// Over ends the anchor with this keeper, however that ends; a sweeper removes
	// the project's cgroups after both.
	Over(sweeper bool) error
}
