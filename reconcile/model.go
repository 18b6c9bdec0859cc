package reconcile

import (
	"time"

	"github.com/davit-run/davit/engine"
)

// Desired is what a project asks of the host.
type Desired struct {
	Project    string
	Networks   []Network
	Volumes    []Volume
	Images     []Image
	Containers []Container // in an order that never names a dependant before what it depends on

	// Contents are those of secrets and configs, by engine.FileMount.Key. They
	// go to data/secrets and into no other record.
	Contents map[string][]byte `json:"-"`
	// Services are all the services of the files, those scaled to none or shut
	// off by a profile included: a container of any other is an orphan. Nil
	// stands for the services of Containers.
	Services []string
	// Empty are the services scaled to none: their containers are removed.
	Empty []string
}

// A Network that is asked for. An external one is never made or removed.
type Network struct {
	engine.Network
	Key      string // the project's own name for it
	External bool
	Origin   string // file:line, for messages
}

// A Volume that is asked for.
type Volume struct {
	engine.Volume
	Key      string
	External bool
	Origin   string
}

// An Image that containers need.
type Image struct {
	Ref        string // the name that Spec.Image carries
	Service    string // the first that asked for it
	Build      bool   // davit builds it; Key of the build is the service's name
	PullPolicy string // always, never, missing, build, refresh, daily, weekly, every_…
	// RefreshAfter is how old the last look at the registry may be under the
	// policies refresh, daily, weekly and every_…
	RefreshAfter time.Duration
	Platform     string
	Origin       string
}

// Conditions under which a dependant may start.
const (
	Started   = "service_started"
	Healthy   = "service_healthy"
	Completed = "service_completed_successfully"
)

// A Container that is asked for: one replica of a service.
type Container struct {
	Name     string
	Service  string
	Number   int
	Spec     engine.Spec // labels included, but for those that vary by replica
	Hash     string      // the config-hash label
	After    []Dependency
	Once     bool // x-once: a finished one is not started again
	Provider bool
	Origin   string
	// Namespaces that are another container's: Spec fields say service:NAME
	// here, and become container:ID when the step is applied.
	Joins []string
	// PreStart are the containers that run to their end, one after the other,
	// before this one starts. Hooks that run once for a service are those of
	// its first replica; the others wait for them too.
	PreStart []Container `json:",omitempty"`
}

// A Dependency is a service that must be so far before this one starts.
type Dependency struct {
	Service   string
	Condition string
	Optional  bool // required: false
	Restart   bool // restarted and recreated together with it
}

// Actual is what the host has for a project.
type Actual struct {
	Networks map[string]engine.Network // by name on this host, the project's and the external ones asked for
	Volumes  map[string]engine.Volume
	Images   map[string]string // reference asked for -> image id present
	// Pulled tells when a reference was last asked for at its registry, or else
	// when its image came to this host.
	Pulled     map[string]time.Time
	Containers []ActualContainer
	// Others are the ids of the containers, of any project, that definitions
	// name by container:NAME; those that are not there are left out.
	Others map[string]string
}

// An ActualContainer is one the host has, with the project's label.
type ActualContainer struct {
	engine.Container
	State engine.State
}

// Service is the label's; Number too.
func (a ActualContainer) Service() string { return a.Spec.Labels["com.docker.compose.service"] }

// Options shape a plan: what the flags of up, create, down and the rest ask for.
type Options struct {
	Services       []string // only these and, unless NoDeps, what they need; empty: all
	NoDeps         bool
	NoStart        bool
	ForceRecreate  bool
	NoRecreate     bool
	RecreateDeps   bool // --always-recreate-deps
	RenewAnonymous bool // -V
	RemoveOrphans  bool
	IgnoreOrphans  bool
	Build          bool // --build
	NoBuild        bool
	Pull           string    // overrides every image's policy
	Now            time.Time // what the age of images counts to
	Timeout        *engine.Duration
	// ImagesReady says that the image steps of this plan were applied before:
	// Actual.Images is what there will be.
	ImagesReady bool
	// KeepVolumes are volumes whose definition changed, and which stay as they
	// are because a person said so.
	KeepVolumes []string
	// Except is a service whose containers are left alone, though what they
	// need is made, started and waited for: run makes one of its own.
	Except  string
	Volumes bool   // down, rm: volumes too
	Images  string // down --rmi: local or all; empty: none
}
