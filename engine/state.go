package engine

import "time"

// A Status is where a container stands in its life, in Docker's words.
type Status string

// The statuses.
const (
	Created    Status = "created"
	Running    Status = "running"
	Paused     Status = "paused"
	Restarting Status = "restarting" // exited, and waiting to be started again
	Removing   Status = "removing"
	Exited     Status = "exited"
	Dead       Status = "dead" // could not be removed whole; the next attempt goes on
)

// A State is what is known of a container's process. Its keeper alone writes
// it: without a sync while the container lives, because another boot makes it
// void anyway (BootID), and with one when the process has ended on its own.
type State struct {
	Status     Status    `json:"status"`
	PID        int       `json:"pid,omitempty"`
	StartTicks uint64    `json:"startTicks,omitempty"` // field 22 of /proc/PID/stat: tells a reused PID
	BootID     string    `json:"bootID,omitempty"`
	ExitCode   int       `json:"exitCode"` // 128+n after signal n
	OOMKilled  bool      `json:"oomKilled,omitempty"`
	Error      string    `json:"error,omitempty"` // why it could not be started
	StartedAt  time.Time `json:"startedAt,omitzero"`
	FinishedAt time.Time `json:"finishedAt,omitzero"`
	Restarts   int       `json:"restarts,omitempty"`
	// RestartWait is the last wait of the restart policy: the next doubles it.
	RestartWait Duration `json:"restartWait,omitempty"`
	// Asked is true when a person or a plan ended it: no policy restarts it.
	Asked bool `json:"asked,omitempty"`

	Health    *Health    `json:"health,omitempty"`
	Endpoints []Endpoint `json:"endpoints,omitempty"`
	Ports     []Bound    `json:"ports,omitempty"`
}

// Health is what the probes of a container found so far.
type Health struct {
	Status  string  `json:"status"` // starting, healthy, unhealthy
	Failing int     `json:"failing,omitempty"`
	Log     []Probe `json:"log,omitempty"` // the last five
}

// A Probe is the outcome of one health check.
type Probe struct {
	Start    time.Time `json:"start"`
	End      time.Time `json:"end"`
	ExitCode int       `json:"exitCode"`
	Output   string    `json:"output,omitempty"` // at most 4 KiB
}

// An Endpoint is a container's place on a network, as it was given out.
type Endpoint struct {
	Network   string `json:"network"`
	IPv4      string `json:"ipv4,omitempty"` // with prefix length, such as 10.201.3.2/24
	IPv6      string `json:"ipv6,omitempty"`
	Gateway   string `json:"gateway,omitempty"`
	Gateway6  string `json:"gateway6,omitempty"`
	MAC       string `json:"mac,omitempty"`
	Interface string `json:"interface,omitempty"`
}

// A Bound port is a published port as the host has it: never a range, and
// HostPort never 0.
type Bound struct {
	HostIP        string `json:"hostIP,omitempty"`
	HostPort      uint16 `json:"hostPort"`
	ContainerPort uint16 `json:"containerPort"`
	Protocol      string `json:"protocol"`
}

// An Event is one thing that happened to a container or network.
type Event struct {
	Time       time.Time         `json:"time"`
	Type       string            `json:"type"`   // container, network, volume, image
	Action     string            `json:"action"` // create, start, die, restart, stop, kill, oom, health_status: healthy, destroy, …
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Attributes map[string]string `json:"attributes,omitempty"`
}

// A Snapshot is a container's record together with its state at one moment.
type Snapshot struct {
	Container
	State State `json:"state"`
}
