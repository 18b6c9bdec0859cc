package engine

import "time"

// A Container is the record of one container: what was asked for, the image
// content it stands on, and the names by which the host knows it. It is
// written before anything is made for it in the kernel; only its networks, names,
// ports and name servers are changed afterwards, where that needs no new process.
// What happens to the container is its State.
type Container struct {
	ID      string    `json:"id"`      // 64 hex digits, random
	Name    string    `json:"name"`    // unique on this host, such as shop-web-1
	Project string    `json:"project"` // whose keeper looks after it
	Created time.Time `json:"created"`
	Spec    Spec      `json:"spec"`

	// ImageID and the two fields after it are copied from the image when the
	// container is created, so that it runs on although the tag moves away.
	ImageID     string      `json:"imageID"`
	ImageConfig ImageConfig `json:"imageConfig"`
	Layers      []string    `json:"layers"` // layer ids, lowest first

	// Volumes says which volume holds each Mount of type volume, by target;
	// anonymous ones get their name here. Keys are Mount.Target.
	Volumes map[string]string `json:"volumes,omitempty"`

	// MountLayers are the layers of mounted images, lowest first, by target.
	MountLayers map[string][]string `json:"mountLayers,omitempty"`

	// AutoRemove removes the container, and its anonymous volumes, when it
	// exits; its upper directory may then be mounted volatile.
	AutoRemove bool `json:"autoRemove,omitempty"`
}

// A Spec is the definition of a container: everything that, when it changes,
// makes the container another one. Two specs are compared field by field in
// their JSON form, which also names what changed; so a field is never renamed,
// and a zero value always means "not asked for".
type Spec struct {
	Image      string            `json:"image"`
	Platform   string            `json:"platform,omitempty"`
	Command    []string          `json:"command,omitempty"`    // replaces the image's Cmd when not nil
	Entrypoint []string          `json:"entrypoint,omitempty"` // replaces the image's Entrypoint, and drops its Cmd
	NoCommand  bool              `json:"noCommand,omitempty"`  // an empty command was asked for: drop the image's
	NoEntry    bool              `json:"noEntrypoint,omitempty"`
	Env        map[string]string `json:"environment,omitempty"`
	// UnsetEnv are image variables to leave out.
	UnsetEnv    []string          `json:"unsetEnvironment,omitempty"`
	WorkingDir  string            `json:"workingDir,omitempty"`
	User        string            `json:"user,omitempty"` // uid[:gid] or names, looked up in the image
	GroupAdd    []string          `json:"groupAdd,omitempty"`
	Umask       *uint32           `json:"umask,omitempty"`
	Hostname    string            `json:"hostname,omitempty"`
	Domainname  string            `json:"domainname,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	TTY         bool              `json:"tty,omitempty"`
	OpenStdin   bool              `json:"stdinOpen,omitempty"`
	Init        bool              `json:"init,omitempty"` // a reaping, forwarding PID 1 of davit's

	StopSignal  string        `json:"stopSignal,omitempty"`  // such as SIGTERM; empty: the image's, then SIGTERM
	StopTimeout *Duration     `json:"stopTimeout,omitempty"` // nil: 10 s
	Restart     RestartPolicy `json:"restart,omitzero"`
	Health      *HealthCheck  `json:"health,omitempty"`

	// NetworkMode is empty for the networks below, or one of none, host,
	// container:ID. Endpoints are in the order in which they are connected;
	// the default route goes through the one with the highest GWPriority.
	NetworkMode string         `json:"networkMode,omitempty"`
	Endpoints   []EndpointSpec `json:"endpoints,omitempty"`
	Ports       []Port         `json:"ports,omitempty"`
	Expose      []string       `json:"expose,omitempty"` // such as 80/tcp
	DNS         []string       `json:"dns,omitempty"`
	DNSSearch   []string       `json:"dnsSearch,omitempty"`
	DNSOptions  []string       `json:"dnsOptions,omitempty"`
	ExtraHosts  []string       `json:"extraHosts,omitempty"` // name:address; address may be host-gateway

	Mounts []Mount     `json:"mounts,omitempty"`
	Files  []FileMount `json:"files,omitempty"` // secrets and configs

	Resources Resources `json:"resources,omitzero"`
	Security  Security  `json:"security,omitzero"`
	Log       LogConfig `json:"log,omitzero"`
	Hooks     Hooks     `json:"hooks,omitzero"`
}

// Mount kinds.
const (
	MountBind   = "bind"
	MountVolume = "volume"
	MountTmpfs  = "tmpfs"
	MountImage  = "image"
)

// A Mount is one place in a container that is not its own layer.
type Mount struct {
	Type     string `json:"type"`             // one of the Mount kinds
	Source   string `json:"source,omitempty"` // host path, volume name (empty: anonymous) or image
	Target   string `json:"target"`
	ReadOnly bool   `json:"readOnly,omitempty"`

	Propagation    string            `json:"propagation,omitempty"`    // bind: rprivate when empty
	CreateHostPath bool              `json:"createHostPath,omitempty"` // bind: make a missing source a directory
	Recursive      string            `json:"recursive,omitempty"`      // bind: enabled, disabled, writable, readonly
	SELinux        string            `json:"selinux,omitempty"`        // bind: z or Z
	NoCopy         bool              `json:"noCopy,omitempty"`         // volume: do not take the image's content
	Subpath        string            `json:"subpath,omitempty"`        // volume, image
	Labels         map[string]string `json:"labels,omitempty"`         // volume: of an anonymous one
	TmpfsSize      int64             `json:"tmpfsSize,omitempty"`      // bytes; 0: no limit asked for
	TmpfsMode      uint32            `json:"tmpfsMode,omitempty"`      // 0: 01777
	TmpfsOptions   []string          `json:"tmpfsOptions,omitempty"`
}

// A FileMount is a secret or config: one read-only file whose content davit
// keeps apart from every other record (data/secrets/<Key>).
type FileMount struct {
	Kind   string `json:"kind"`             // secret or config
	Name   string `json:"name"`             // as the project calls it
	Key    string `json:"key"`              // where data/secrets holds the content
	Digest string `json:"digest,omitempty"` // a keyed digest of the content, so that a change is seen; never the content
	Target string `json:"target"`           // absolute path in the container
	UID    int    `json:"uid,omitempty"`
	GID    int    `json:"gid,omitempty"`
	Mode   uint32 `json:"mode,omitempty"` // 0: 0444
}

// An EndpointSpec is a place on a network that a container asks for.
type EndpointSpec struct {
	Network     string   `json:"network"` // the network's name on this host
	Aliases     []string `json:"aliases,omitempty"`
	IPv4        string   `json:"ipv4,omitempty"`
	IPv6        string   `json:"ipv6,omitempty"`
	LinkLocal   []string `json:"linkLocal,omitempty"`
	MAC         string   `json:"mac,omitempty"`
	Interface   string   `json:"interface,omitempty"` // name inside; empty: ethN
	Priority    int      `json:"priority,omitempty"`
	GWPriority  int      `json:"gwPriority,omitempty"`
	DriverOpts  Options  `json:"driverOpts,omitempty"`
	LinkAliases []string `json:"linkAliases,omitempty"` // NAME:ALIAS pairs only this container resolves
	ByHand      bool     `json:"byHand,omitempty"`      // a person connected it: no project asked for it, none takes it away
}

// Options are driver options: free-form, as the driver documents them.
type Options map[string]string

// A Port is one published port: one of the host, or the first that is free of a
// range of the host's.
type Port struct {
	HostIP        string `json:"hostIP,omitempty"`
	HostPort      uint16 `json:"hostPort,omitempty"` // 0: any free one
	HostPortEnd   uint16 `json:"hostPortEnd,omitempty"`
	ContainerPort uint16 `json:"containerPort"`
	Protocol      string `json:"protocol"` // tcp, udp or sctp
}

// A RestartPolicy says what happens after the container's process ends.
type RestartPolicy struct {
	Mode       string   `json:"mode,omitempty"`       // no (or empty), always, on-failure, unless-stopped
	MaxRetries int      `json:"maxRetries,omitempty"` // on-failure only; 0: no limit
	Delay      Duration `json:"delay,omitempty"`      // deploy.restart_policy.delay; 0: 100 ms doubling to 1 min
	Window     Duration `json:"window,omitempty"`     // a start that lived this long counts as good; 0: 10 s
	Unhealthy  bool     `json:"unhealthy,omitempty"`  // x-on-unhealthy: restart
}

// A HealthCheck is a probe run inside the container.
type HealthCheck struct {
	Test          []string `json:"test,omitempty"` // NONE | CMD args… | CMD-SHELL line
	Interval      Duration `json:"interval,omitempty"`
	Timeout       Duration `json:"timeout,omitempty"`
	StartPeriod   Duration `json:"startPeriod,omitempty"`
	StartInterval Duration `json:"startInterval,omitempty"`
	Retries       int      `json:"retries,omitempty"`
}

// A LogConfig says how output is kept; davit always journals.
type LogConfig struct {
	Driver  string  `json:"driver,omitempty"`
	Options Options `json:"options,omitempty"`
}

// Hooks run beside the container's own process. PreStart ones are init
// containers in their own right and are planned as such; these two are execs.
type Hooks struct {
	PreStart  string `json:"preStart,omitempty"` // a digest of the pre_start hooks: other ones make another container
	PostStart []Exec `json:"postStart,omitempty"`
	PreStop   []Exec `json:"preStop,omitempty"`
}

// An Exec is one further process in a running container.
type Exec struct {
	Args       []string `json:"args"`
	Env        []string `json:"env,omitempty"` // KEY=value, over the container's own
	WorkingDir string   `json:"workingDir,omitempty"`
	User       string   `json:"user,omitempty"`
	Privileged bool     `json:"privileged,omitempty"`
	TTY        bool     `json:"tty,omitempty"`
}

// Resources are limits; zero values mean none.
type Resources struct {
	NanoCPUs          int64          `json:"nanoCPUs,omitempty"`
	CPUShares         uint64         `json:"cpuShares,omitempty"`
	CPUQuota          int64          `json:"cpuQuota,omitempty"`
	CPUPeriod         uint64         `json:"cpuPeriod,omitempty"`
	CPURealtimePeriod uint64         `json:"cpuRealtimePeriod,omitempty"`
	CPURealtimeRun    int64          `json:"cpuRealtimeRuntime,omitempty"`
	CpusetCpus        string         `json:"cpusetCpus,omitempty"`
	CpusetMems        string         `json:"cpusetMems,omitempty"`
	Memory            int64          `json:"memory,omitempty"`
	MemoryReservation int64          `json:"memoryReservation,omitempty"`
	MemorySwap        int64          `json:"memorySwap,omitempty"` // memory + swap; -1: no limit
	MemorySwappiness  *uint64        `json:"memorySwappiness,omitempty"`
	PidsLimit         int64          `json:"pidsLimit,omitempty"` // -1: no limit
	OOMKillDisable    bool           `json:"oomKillDisable,omitempty"`
	OOMScoreAdj       int            `json:"oomScoreAdj,omitempty"`
	BlkioWeight       uint16         `json:"blkioWeight,omitempty"`
	BlkioWeightDevice []WeightDevice `json:"blkioWeightDevice,omitempty"`
	ReadBPS           []RateDevice   `json:"readBPS,omitempty"`
	WriteBPS          []RateDevice   `json:"writeBPS,omitempty"`
	ReadIOPS          []RateDevice   `json:"readIOPS,omitempty"`
	WriteIOPS         []RateDevice   `json:"writeIOPS,omitempty"`
	Ulimits           []Ulimit       `json:"ulimits,omitempty"`
	ShmSize           int64          `json:"shmSize,omitempty"`
	StorageSize       int64          `json:"storageSize,omitempty"`
	CgroupParent      string         `json:"cgroupParent,omitempty"`
}

// A WeightDevice gives one block device a share of its bandwidth.
type WeightDevice struct {
	Path   string `json:"path"`
	Weight uint16 `json:"weight"`
}

// A RateDevice bounds the traffic to one block device, per second.
type RateDevice struct {
	Path string `json:"path"`
	Rate uint64 `json:"rate"`
}

// A Ulimit is one rlimit of the container's processes.
type Ulimit struct {
	Name string `json:"name"` // nofile, nproc, … (without RLIMIT_)
	Soft int64  `json:"soft"` // -1: unlimited
	Hard int64  `json:"hard"`
}

// Security is what a container may do, against the defaults of section 1 of
// the hardening rules.
type Security struct {
	Privileged   bool     `json:"privileged,omitempty"`
	CapAdd       []string `json:"capAdd,omitempty"`
	CapDrop      []string `json:"capDrop,omitempty"`
	Options      []string `json:"options,omitempty"` // security_opt as written: seccomp=…, no-new-privileges, …
	Tight        bool     `json:"tight,omitempty"`   // x-security: tight
	NoCompat32   bool     `json:"noCompat32,omitempty"`
	ReadOnlyRoot bool     `json:"readOnlyRoot,omitempty"`
	Devices      []Device `json:"devices,omitempty"`
	DeviceRules  []string `json:"deviceRules,omitempty"` // such as c 1:3 mr
	Sysctls      Options  `json:"sysctls,omitempty"`
	IPC          string   `json:"ipc,omitempty"` // private when empty; shareable, host, container:ID
	PID          string   `json:"pid,omitempty"` // private when empty; host, container:ID
	UTS          string   `json:"uts,omitempty"` // private when empty; host
	Userns       string   `json:"userns,omitempty"`
	Cgroup       string   `json:"cgroup,omitempty"` // private when empty on v2; host
}

// A Device is a host device node shown to a container.
type Device struct {
	Source      string `json:"source"`
	Target      string `json:"target"`
	Permissions string `json:"permissions,omitempty"` // rwm when empty
}
