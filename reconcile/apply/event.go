package apply

import (
	"time"

	"github.com/davit-run/davit/reconcile"
)

// An Event is one change of one object's progress, in the words that scripts
// match.
type Event struct {
	Time time.Time
	Kind string // Container, Network, Volume, Image
	Name string
	ID   string // of a container, once there is one
	Word string // such as Creating, Created
	Done bool   // the object needs no more work in this plan, as far as is known
	Err  error  // it failed, or (with Done) went on without
}

func (r *run) report(events ...Event) {
	for _, e := range events {
		if r.options.Report != nil && e.Word != "" {
			e.Time = time.Now()
			if e.Kind == "Container" {
				e.ID, _ = r.names.id(e.Name)
			}
			r.options.Report(e)
		}
	}
}

// began are the events of a step's beginning.
func (r *run) began(do reconcile.Action) []Event {
	if w, ok := do.(reconcile.Await); ok {
		return each(w, Event{Kind: "Container", Word: "Waiting"})
	}
	kind, name, id, w := r.words(do)
	if r.replaced[id] && id != "" {
		w.begin = ""
		if !r.told[id] {
			w.begin, r.told[id] = "Recreate", true
		}
	}
	return []Event{{Kind: kind, Name: name, Word: w.begin}}
}

// ended are the events of a step that succeeded, or was forgiven err.
func (r *run) ended(do reconcile.Action, err error) []Event {
	if w, ok := do.(reconcile.Await); ok {
		word := "Healthy"
		switch {
		case err != nil:
			word = "Skipped"
		case w.Condition == reconcile.Completed:
			word = "Exited"
		}
		return each(w, Event{Kind: "Container", Word: word, Done: true, Err: err})
	}
	kind, name, id, w := r.words(do)
	if err != nil {
		w.end = "Skipped"
		switch do.(type) {
		case reconcile.RemoveNetwork, reconcile.RemoveVolume:
			w.end, err = "Resource is still in use", nil
		}
	}
	if r.replaced[id] && id != "" { // it has made room when it has stopped; its removal is nobody's concern
		w.end = "Recreated"
		if _, made := do.(reconcile.CreateContainer); made || r.roomy[id] {
			w.end = ""
		}
		r.roomy[id] = r.roomy[id] || w.end != ""
	}
	return []Event{{Kind: kind, Name: name, Word: w.end, Done: true, Err: err}}
}

// failed are the events of a step that did not succeed.
func (r *run) failed(do reconcile.Action, err error) []Event {
	if w, ok := do.(reconcile.Await); ok {
		return each(w, Event{Kind: "Container", Word: "Error", Done: true, Err: err})
	}
	kind, name, _, _ := r.words(do)
	return []Event{{Kind: kind, Name: name, Word: "Error", Done: true, Err: err}}
}

func each(w reconcile.Await, e Event) []Event {
	var out []Event
	for _, name := range w.Names {
		e.Name = name
		out = append(out, e)
	}
	return out
}

type words struct{ begin, end string }

// words tells of an action: what it works on, its container's id where it is
// or was one, and how its beginning and end are called.
func (r *run) words(do reconcile.Action) (kind, name, id string, w words) {
	switch do := do.(type) {
	case reconcile.BuildImage:
		if do.Fallback && r.pulled[do.Ref] {
			return "Image", do.Ref, "", words{}
		}
		return "Image", do.Ref, "", words{"Building", "Built"}
	case reconcile.PullImage:
		return "Image", do.Ref, "", words{"Pulling", "Pulled"}
	case reconcile.RemoveImage:
		return "Image", do.Ref, "", words{"Removing", "Removed"}
	case reconcile.CreateNetwork:
		return "Network", do.Network.Name, "", words{"Creating", "Created"}
	case reconcile.RemoveNetwork:
		return "Network", do.Name, "", words{"Removing", "Removed"}
	case reconcile.CreateVolume:
		return "Volume", do.Volume.Name, "", words{"Creating", "Created"}
	case reconcile.RemoveVolume:
		return "Volume", do.Name, "", words{"Removing", "Removed"}
	}
	return containerWords(do)
}

func containerWords(do reconcile.Action) (kind, name, id string, w words) {
	kind = "Container"
	switch do := do.(type) {
	case reconcile.CreateContainer:
		if do.Replaces != "" {
			return kind, do.Name, do.Replaces, words{"Recreate", ""}
		}
		return kind, do.Name, "", words{"Creating", "Created"}
	case reconcile.UpdateContainer:
		return kind, do.Name, do.ID, words{"Updating", "Updated"}
	case reconcile.StartContainer:
		if do.Restart {
			return kind, do.Name, "", words{"", "Started"}
		}
		return kind, do.Name, "", words{"Starting", "Started"}
	case reconcile.StopContainer:
		if do.Restart {
			return kind, do.Name, do.ID, words{"Restarting", ""}
		}
		return kind, do.Name, do.ID, words{"Stopping", "Stopped"}
	case reconcile.RemoveContainer:
		return kind, do.Name, do.ID, words{"Removing", "Removed"}
	case reconcile.KillContainer:
		return kind, do.Name, do.ID, words{"Killing", "Killed"}
	case reconcile.PauseContainer:
		return kind, do.Name, do.ID, words{"Pausing", "Paused"}
	case reconcile.UnpauseContainer:
		return kind, do.Name, do.ID, words{"Unpausing", "Unpaused"}
	}
	return kind, "", "", words{}
}
