package engine

// A RunStep is one command of an image build: a process with a build's
// lifetime, under the same hardening as a container, whose writes become the
// layer that Upper holds afterwards.
type RunStep struct {
	ID       string   `json:"id"`    // names the cgroup and the runtime's state; unique on this host
	Lower    []string `json:"lower"` // absolute layer directories, lowest first
	Upper    string   `json:"upper"`
	Work     string   `json:"work"`
	Args     []string `json:"args"`
	Env      []string `json:"env,omitempty"`
	Cwd      string   `json:"cwd"`
	User     string   `json:"user,omitempty"`
	Hostname string   `json:"hostname,omitempty"`
	// Network is none, host, or empty for a sandbox of its own that reaches
	// out through the host.
	Network string `json:"network,omitempty"`
	// NetNSFD is the descriptor of that sandbox in the process that runs the
	// step; 0: none was prepared.
	NetNSFD    int         `json:"netNSFD,omitempty"`
	ExtraHosts []string    `json:"extraHosts,omitempty"` // name:address
	Mounts     []StepMount `json:"mounts,omitempty"`
	Insecure   bool        `json:"insecure,omitempty"` // --security=insecure, consented to
	ShmSize    int64       `json:"shmSize,omitempty"`
	Ulimits    []Ulimit    `json:"ulimits,omitempty"`
	// CgroupParent is where the step's cgroup is made; empty: davit's own.
	CgroupParent string `json:"cgroupParent,omitempty"`
}

// A StepMount is a mount of a build command.
type StepMount struct {
	Type     string `json:"type"`             // bind, tmpfs, or file for Content
	Source   string `json:"source,omitempty"` // absolute host path, a directory or a file
	Target   string `json:"target"`
	ReadOnly bool   `json:"readOnly,omitempty"`
	Size     int64  `json:"size,omitempty"` // tmpfs
	// Lower, when set, makes the source an overlay of these directories
	// (lowest first) whose writes go to Upper and Work, or are refused.
	Lower []string `json:"lower,omitempty"`
	Upper string   `json:"upper,omitempty"`
	Work  string   `json:"work,omitempty"`
	// Content is that of a mount of type file: a secret, which is written to a
	// tmpfs of the step's own and never to a disk.
	Content []byte `json:"content,omitempty"`
	UID     int    `json:"uid,omitempty"`
	GID     int    `json:"gid,omitempty"`
	Mode    uint32 `json:"mode,omitempty"` // 0: 0400
}
