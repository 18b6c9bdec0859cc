package project

import "time"

// Deploy is how many containers a service has and what they may use.
type Deploy struct {
	Mode           string
	Replicas       *int
	Labels         map[string]string
	UpdateConfig   *Update
	RollbackConfig *Update
	Resources      Resources
	RestartPolicy  *RestartPolicy
	Placement      Placement
	EndpointMode   string
}

// An Update is how replicas are replaced.
type Update struct {
	Parallelism     *uint64
	Delay           time.Duration
	FailureAction   string
	Monitor         time.Duration
	MaxFailureRatio float32
	Order           string
}

// Resources are limits and reservations.
type Resources struct {
	Limits       *Resource
	Reservations *Resource
}

// A Resource is one set of amounts; zero means not given.
type Resource struct {
	NanoCPUs         float32 // CPUs, in spite of compose-go's name
	MemoryBytes      int64
	Pids             int64
	Devices          []DeviceRequest
	GenericResources []GenericResource
}

// A GenericResource is a Swarm node resource.
type GenericResource struct{ DiscreteResourceSpec *DiscreteResource }

// A DiscreteResource is a count of one kind.
type DiscreteResource struct {
	Kind  string
	Value int64
}

// RestartPolicy is deploy's restart policy; it beats Service.Restart.
type RestartPolicy struct {
	Condition   string // none, on-failure, any
	Delay       *time.Duration
	MaxAttempts *uint64
	Window      *time.Duration
}

// Placement says on which nodes a service may run.
type Placement struct {
	Constraints []string
	Preferences []Preference
	MaxReplicas uint64
}

// A Preference spreads replicas.
type Preference struct{ Spread string }

// Develop is what `watch` looks after.
type Develop struct{ Watch []Watch }

// A Watch is one path and what its changes do.
type Watch struct {
	Path        string
	Action      string // sync, rebuild, restart, sync+restart, sync+exec
	Target      string
	Exec        Hook
	Include     []string
	Ignore      []string
	InitialSync bool
}

// Triggers say when a job runs.
type Triggers struct {
	Manual   *bool
	Schedule []Schedule
}

// A Schedule is one cron line.
type Schedule struct{ Cron, Timezone, Concurrency, MissedFires string }
