package project

import "time"

// A Service is one service, or one job, of a project. The fields carry the
// names and meanings that the compose specification gives them; only those
// with a comment say more.
type Service struct {
	Name     string
	Profiles []string
	Deploy   *Deploy
	Develop  *Develop
	Restart  string // no, always, on-failure[:N], unless-stopped; empty: no
	Scale    *int
	Triggers *Triggers // of a job

	Attach        *bool
	ContainerName string
	Provider      *Provider
	ExternalLinks []string
	Links         []string // SERVICE[:ALIAS]
	PreStart      []PreStart
	PostStart     []Hook
	PreStop       []Hook

	Container

	Build       *Build
	DependsOn   map[string]Dependency // links, namespaces and volumes_from included
	Expose      []string
	HealthCheck *HealthCheck
	Ports       []Port
	StdinOpen   bool
	Tty         bool

	Extensions map[string]any // x-…

	// Hash is the value of the config-hash label: it changes with the
	// container's definition and with nothing else.
	Hash string
}

// A Container is what services, jobs and pre_start hooks have in common.
type Container struct {
	Annotations       map[string]string
	BlkioConfig       *Blkio
	CapAdd            []string
	CapDrop           []string
	CgroupParent      string
	Cgroup            string
	CPUCount          int64   // Windows only
	CPUPercent        float32 // Windows only
	CPUPeriod         int64   // microseconds
	CPUQuota          int64   // microseconds
	CPURTPeriod       int64
	CPURTRuntime      int64
	CPUS              float32
	CPUSet            string
	CPUShares         int64
	Command           []string // nil: the image's; empty: none
	Configs           []FileUse
	DeviceCgroupRules []string
	Devices           []DeviceMapping
	DNS               []string
	DNSOpts           []string
	DNSSearch         []string
	DomainName        string
	Entrypoint        []string // nil: the image's; empty: none
	Environment       map[string]*string
	EnvFiles          []EnvFile
	ExtraHosts        map[string][]string
	GroupAdd          []string
	Gpus              []DeviceRequest
	Hostname          string
	Image             string
	Init              *bool
	Ipc               string
	Isolation         string
	Labels            map[string]string
	LabelFiles        []string
	Logging           *Logging
	MemLimit          int64 // bytes, as all sizes
	MemReservation    int64
	MemSwapLimit      int64
	MemSwappiness     int64
	MacAddress        string
	Models            map[string]*ModelUse
	NetworkMode       string
	Networks          map[string]*NetworkUse
	OomKillDisable    bool
	OomScoreAdj       int64
	Pid               string
	PidsLimit         int64
	Platform          string
	Privileged        bool
	PullPolicy        string
	PullRefreshAfter  string
	ReadOnly          bool
	Runtime           string
	Secrets           []FileUse
	SecurityOpt       []string
	ShmSize           int64
	StopGracePeriod   *time.Duration
	StopSignal        string
	StorageOpt        map[string]string
	Sysctls           map[string]string
	Tmpfs             []string
	Ulimits           map[string]*Ulimit
	Umask             *uint32
	UseAPISocket      bool
	User              string
	UserNSMode        string
	Uts               string
	Volumes           []Mount
	VolumesFrom       []string
	WorkingDir        string
}

// Replicas is how many containers the service has.
func (s *Service) Replicas() int {
	if s.Scale != nil {
		return *s.Scale
	}
	if s.Deploy != nil && s.Deploy.Replicas != nil {
		return *s.Deploy.Replicas
	}
	return 1
}

// A Dependency is how far another service must be first.
type Dependency struct {
	Condition string
	Restart   bool
	Required  bool
}

// A Hook is a command run in a container at a moment of its life.
type Hook struct {
	Command     []string
	User        string
	Privileged  bool
	WorkingDir  string
	Environment map[string]*string
}

// A PreStart is a container run to its end before the service starts.
type PreStart struct {
	Container
	PerReplica bool
}

// A Provider is an outside program that stands in for a container.
type Provider struct {
	Type    string
	Options map[string][]string
}

// HealthCheck is a service's probe; nil durations are the defaults.
type HealthCheck struct {
	Test          []string
	Timeout       *time.Duration
	Interval      *time.Duration
	Retries       *uint64
	StartPeriod   *time.Duration
	StartInterval *time.Duration
	Disable       bool
}

// A Port is one published port.
type Port struct {
	Name        string
	Mode        string
	HostIP      string
	Target      uint32
	Published   string // a port, a range FIRST-LAST, or empty for any free one
	Protocol    string
	AppProtocol string
}

// A Mount is one entry of volumes.
type Mount struct {
	Type        string
	Source      string
	Target      string
	ReadOnly    bool
	Consistency string
	Bind        *BindOptions
	Volume      *VolumeOptions
	Tmpfs       *TmpfsOptions
	Image       *ImageOptions
}

// BindOptions are those of a bind mount.
type BindOptions struct {
	SELinux        string
	Propagation    string
	CreateHostPath bool
	Recursive      string
}

// VolumeOptions are those of a volume mount.
type VolumeOptions struct {
	Labels  map[string]string
	NoCopy  bool
	Subpath string
}

// TmpfsOptions are those of a tmpfs mount.
type TmpfsOptions struct {
	Size int64
	Mode uint32
}

// ImageOptions are those of an image mount.
type ImageOptions struct{ SubPath string }

// A FileUse is a secret or config as a service uses it.
type FileUse struct {
	Source string
	Target string
	UID    string
	GID    string
	Mode   *int64
}

// A NetworkUse is a service's place on a network.
type NetworkUse struct {
	Aliases             []string
	DriverOpts          map[string]string
	GatewayPriority     int
	InterfaceName       string
	Ipv4Address         string
	Ipv6Address         string
	LinkLocalIPs        []string
	MacAddress          string
	Priority            int
	UseServiceNameAlias *bool
}

// A ModelUse says which variables tell a service about a model.
type ModelUse struct {
	EndpointVariable string
	ModelVariable    string
}

// An EnvFile is one env_file entry.
type EnvFile struct {
	Path     string
	Required bool
	Format   string
}

// Logging is where a service's output goes.
type Logging struct {
	Driver  string
	Options map[string]string
}

// A Ulimit is one rlimit: Single, or Soft and Hard.
type Ulimit struct{ Single, Soft, Hard int }

// Blkio are block device limits.
type Blkio struct {
	Weight          uint16
	WeightDevice    []WeightDevice
	DeviceReadBps   []ThrottleDevice
	DeviceReadIOps  []ThrottleDevice
	DeviceWriteBps  []ThrottleDevice
	DeviceWriteIOps []ThrottleDevice
}

// A WeightDevice is a device and its share.
type WeightDevice struct {
	Path   string
	Weight uint16
}

// A ThrottleDevice is a device and its rate per second.
type ThrottleDevice struct {
	Path string
	Rate int64
}

// A DeviceMapping shows a host device to a container.
type DeviceMapping struct{ Source, Target, Permissions string }

// A DeviceRequest asks for devices such as GPUs; Count -1 means all.
type DeviceRequest struct {
	Capabilities []string
	Driver       string
	Count        int64
	IDs          []string
	Options      map[string]string
}
