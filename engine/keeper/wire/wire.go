// Package wire is what a command and a project's keeper say to each other: one
// JSON message per packet, with file descriptors beside it, over a unix socket.
package wire

import (
	"time"

	"github.com/davit-run/davit/engine"
)

// Version is the protocol's; a keeper of another version is asked to hand over
// to a new one before it is used.
const Version = 1

// MaxMessage bounds one message, in bytes.
const MaxMessage = 128 << 10

// The operations. A connection carries one Request and its Replies; the last
// one has Done set. Closing the connection ends Watch and Wait, and nothing
// else: what was begun for a container is finished without the caller.
const (
	OpHello     = "hello"     // -> Reply{Version, PID}
	OpStatus    = "status"    // -> one Reply per container the keeper knows, then Done
	OpStart     = "start"     // ID: start a created or exited container; Done when its process runs (after exec succeeded)
	OpStop      = "stop"      // ID, Signal, Timeout: ask, wait, kill; Done when its process is gone
	OpKill      = "kill"      // ID, Signal: send a signal and return
	OpPause     = "pause"     // ID
	OpUnpause   = "unpause"   // ID
	OpRemove    = "remove"    // ID: stop it if need be, drop its kernel objects, directory and record; Volumes: its anonymous volumes too
	OpAttach    = "attach"    // ID -> Reply with Stdin (pipe) or Console (pty master) as fds
	OpWait      = "wait"      // ID -> Reply{State} when its process has ended and will not be started again by policy
	OpWatch     = "watch"     // -> a Reply{Event} for everything that happens from now on
	OpNetwork   = "network"   // Network: make its bridge and rules stand (idempotent)
	OpNetRemove = "netremove" // Network: take its bridge, rules and record away (idempotent)
	OpStats     = "stats"     // ID (empty: all that live) -> one Reply{ID, Stats} each, then Done
	OpReload    = "reload"    // ID: its record changed in ways that need no new process: networks, names, ports and name servers change at once
	OpRest      = "rest"      // ID: what was begun of its start is taken back; somebody writes to its files
	OpSettle    = "settle"    // -> Reply{Version, PID} once everything is over that was asked for before and makes or takes away
	OpUpgrade   = "upgrade"   // with the program as descriptor: anchor and keeper become it; containers run on. Any protocol version
	OpRepair    = "repair"    // destroy what no record refers to, make stand what records ask for
	OpShutdown  = "shutdown"  // Done when nothing is kept any more; keeper and anchor then exit. Refused while containers run
)

// A Request is the first message of a connection.
type Request struct {
	Version int              `json:"version"`
	Op      string           `json:"op"`
	ID      string           `json:"id,omitempty"` // container
	Network string           `json:"network,omitempty"`
	Signal  string           `json:"signal,omitempty"`  // such as SIGTERM; empty: the container's own stop signal
	Timeout *engine.Duration `json:"timeout,omitempty"` // nil: the container's own grace period
	Volumes bool             `json:"volumes,omitempty"`
	// Once makes the caller of attach the only writer of the input: when it
	// closes the descriptor, the container reads the end of its input.
	Once   bool `json:"once,omitempty"`
	Forget bool `json:"forget,omitempty"` // stop, on the way to remove: its exit need not outlive a power cut
	// Again says that the container is started next: those who connect to its
	// published ports meanwhile wait for it.
	Again bool `json:"again,omitempty"`
	// Hold has wait begin before the container is started: the first reply says
	// that its end cannot be missed, and one that is removed by itself stays
	// until the caller closes the connection.
	Hold bool `json:"hold,omitempty"`
	// Sweep says, with shutdown, that the caller waits for keeper and anchor to
	// be gone and then removes the project's cgroups.
	Sweep bool `json:"sweep,omitempty"`
	// Reason says on whose behalf, for events and keeper.log.
	Reason string `json:"reason,omitempty"`
}

// A Reply is every later message of a connection.
type Reply struct {
	Done    bool          `json:"done,omitempty"`
	Error   string        `json:"error,omitempty"` // as engine code wrote it, ready for the user
	Code    string        `json:"code,omitempty"`  // a word callers branch on: not-found, conflict, port-taken, refused
	Version int           `json:"version,omitempty"`
	PID     int           `json:"pid,omitempty"`
	Build   string        `json:"build,omitempty"` // which build of davit-runtime answers
	ID      string        `json:"id,omitempty"`
	Name    string        `json:"name,omitempty"`
	State   *engine.State `json:"state,omitempty"`
	Event   *engine.Event `json:"event,omitempty"`
	Stats   *engine.Stats `json:"stats,omitempty"`
	FDs     []string      `json:"fds,omitempty"` // what the descriptors beside this message are: stdin, console
	Warning string        `json:"warning,omitempty"`
	At      time.Time     `json:"at,omitzero"`
}
