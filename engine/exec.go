package engine

// An ExecCall asks `davit-runtime exec`, on its descriptor 3, for one further
// process in a running container. The process's streams are the caller's own
// descriptors 0, 1 and 2, copied: they themselves never enter a container.
type ExecCall struct {
	Data    string `json:"data"` // the store's two roots
	Run     string `json:"run"`
	Project string `json:"project"`
	ID      string `json:"id"`
	Exec    Exec   `json:"exec"`
	// Stdin passes the caller's input on; otherwise the process reads nothing.
	Stdin bool `json:"stdin,omitempty"`
	// Detach returns as soon as the process runs, and keeps none of its output.
	Detach bool `json:"detach,omitempty"`
}

// A Stop is how a container is ended, and what comes next.
type Stop struct {
	Signal  string    // such as SIGTERM; empty: the container's own stop signal
	Timeout *Duration // until SIGKILL; nil: the container's own grace period
	// Removal says that the container is removed next: its exit is not made
	// durable, and if another takes its place, the clients of its published
	// TCP ports wait for that one.
	Removal bool
	Restart bool // it is started next, and its clients wait for that
}

// A StepResult is how a RunStep went: the command's exit code, or why it could
// not be run.
type StepResult struct {
	Code  int    `json:"code"`
	Error string `json:"error,omitempty"`
}

// Stats are what a container has used so far, and what it may use.
type Stats struct {
	CPU         Duration `json:"cpu"`       // time on processors since it started
	CPUUser     Duration `json:"cpuUser"`   // of it, in its own code
	CPUKernel   Duration `json:"cpuKernel"` // and in the kernel's
	Throttled   Duration `json:"throttled,omitempty"`
	Memory      uint64   `json:"memory"`                // bytes, without what the kernel can drop at once
	MemoryLimit uint64   `json:"memoryLimit,omitempty"` // bytes; 0: none
	MemoryPeak  uint64   `json:"memoryPeak,omitempty"`
	Pids        uint64   `json:"pids"`
	PidsLimit   uint64   `json:"pidsLimit,omitempty"` // 0: none
	BlockRead   uint64   `json:"blockRead"`           // bytes
	BlockWrite  uint64   `json:"blockWrite"`
	OOMKills    uint64   `json:"oomKills,omitempty"`
}
