package reconcile

import "github.com/davit-run/davit/engine"

// A Step is one engine verb, why it is needed, and what must finish first.
type Step struct {
	ID      int
	Do      Action
	Why     string // printed by --dry-run: the plan explains itself
	After   []int  // steps that must have succeeded
	Consent string // when not empty: the question a person must agree to first
}

// An Action is one verb on the host. The set is sealed: apply has one case
// for each.
type Action interface{ action() }

// The actions.
type (
	// BuildImage builds the image of a service. A Fallback is built only when
	// the pull before it did not bring the image.
	BuildImage struct {
		Service, Ref string
		Fallback     bool
	}
	// PullImage gets an image from its registry.
	PullImage struct {
		Ref, Platform, Policy string
		// Optional: a failure falls back to building or to what is there.
		Optional bool
	}
	// CreateNetwork writes a network's record and makes it stand.
	CreateNetwork struct{ Network engine.Network }
	// RemoveNetwork takes a network away with everything it has in the kernel.
	RemoveNetwork struct{ Name string }
	// CreateVolume makes an empty volume.
	CreateVolume struct{ Volume engine.Volume }
	// RemoveVolume deletes a volume and its content.
	RemoveVolume struct{ Name string }
	// RemoveImage takes an image's name away, and the image with its last.
	RemoveImage struct{ Ref string }
	// CreateContainer writes a container's record. Replaces names the one whose
	// place, and anonymous volumes unless Renew is set, it takes; that one is
	// removed afterwards, so that one record always refers to the volumes.
	CreateContainer struct {
		Name     string
		Service  string
		Number   int
		Spec     engine.Spec
		Hash     string
		Replaces string // container id; empty: none
		Renew    bool
		// Inherit are the anonymous volumes of the container it replaces, by
		// target; nil when there are none or Renew is set.
		Inherit map[string]string
		// AutoRemove removes the container when it exits (run --rm).
		AutoRemove bool
	}
	// UpdateContainer changes the networks, names, ports and name servers of a
	// container that runs, to those of Spec.
	UpdateContainer struct {
		ID, Name, Service string
		Spec              engine.Spec
	}
	// StartContainer starts its process.
	StartContainer struct {
		Name, Service string
		Restart       bool // it was stopped to be started again
	}
	// StopContainer ends its process, keeping the container.
	StopContainer struct {
		ID, Name, Service string
		Timeout           *engine.Duration
		Removal           bool // it is removed next
		Restart           bool // it is started again next
	}
	// KillContainer sends a signal to its first process.
	KillContainer struct{ ID, Name, Service, Signal string }
	// PauseContainer freezes its processes.
	PauseContainer struct{ ID, Name, Service string }
	// UnpauseContainer lets them go on.
	UnpauseContainer struct{ ID, Name, Service string }
	// RemoveContainer takes it away whole; Volumes: its anonymous volumes too.
	// Without an ID it is the one of that name that the plan made.
	RemoveContainer struct {
		ID, Name, Service string
		Volumes           bool
	}
	// Await waits until a service's containers meet a condition.
	Await struct {
		Service   string
		Names     []string
		Condition string
		Optional  bool
		For       string // the dependant, for messages
		Hook      bool   // it is a pre_start hook of For
	}
)

func (BuildImage) action()       {}
func (PullImage) action()        {}
func (CreateNetwork) action()    {}
func (RemoveNetwork) action()    {}
func (CreateVolume) action()     {}
func (RemoveVolume) action()     {}
func (RemoveImage) action()      {}
func (CreateContainer) action()  {}
func (UpdateContainer) action()  {}
func (StartContainer) action()   {}
func (StopContainer) action()    {}
func (RemoveContainer) action()  {}
func (KillContainer) action()    {}
func (PauseContainer) action()   {}
func (UnpauseContainer) action() {}
func (Await) action()            {}
