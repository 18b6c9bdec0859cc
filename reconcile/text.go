package reconcile

import (
	"fmt"
	"strings"
)

// Text is a plan as people read it: one numbered step a line, with what it
// waits for and why it is needed.
func Text(steps []Step) string {
	var b strings.Builder
	for _, s := range steps {
		fmt.Fprintf(&b, "%d. %s", s.ID, Phrase(s.Do))
		for i, id := range s.After {
			if i == 0 {
				fmt.Fprintf(&b, " after %d", id)
			} else {
				fmt.Fprintf(&b, ", %d", id)
			}
		}
		if s.Why != "" {
			fmt.Fprintf(&b, " (%s)", s.Why)
		}
		if s.Consent != "" {
			fmt.Fprintf(&b, " [%s]", s.Consent)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// Phrase is one action as verb and object.
func Phrase(do Action) string {
	switch do := do.(type) {
	case BuildImage:
		return "build image " + do.Ref
	case PullImage:
		return "pull image " + do.Ref
	case RemoveImage:
		return "remove image " + do.Ref
	case CreateNetwork:
		return "create network " + do.Network.Name
	case RemoveNetwork:
		return "remove network " + do.Name
	case CreateVolume:
		return "create volume " + do.Volume.Name
	case RemoveVolume:
		return "remove volume " + do.Name
	case Await:
		return phraseAwait(do)
	}
	return phraseContainer(do)
}

func phraseContainer(do Action) string {
	switch do := do.(type) {
	case CreateContainer:
		return "create container " + do.Name + inherited(do)
	case UpdateContainer:
		return "update container " + do.Name
	case StartContainer:
		return "start container " + do.Name
	case StopContainer:
		return "stop container " + do.Name
	case KillContainer:
		return "send " + do.Signal + " to container " + do.Name
	case PauseContainer:
		return "pause container " + do.Name
	case UnpauseContainer:
		return "unpause container " + do.Name
	case RemoveContainer:
		if do.Volumes {
			return "remove container " + do.Name + " and its anonymous volumes"
		}
		return "remove container " + do.Name
	}
	return fmt.Sprintf("%T", do)
}

func inherited(do CreateContainer) string {
	switch len(do.Inherit) {
	case 0:
		return ""
	case 1:
		return " keeping its anonymous volume"
	}
	return fmt.Sprintf(" keeping its %d anonymous volumes", len(do.Inherit))
}

func phraseAwait(do Await) string {
	names := strings.Join(do.Names, ", ")
	switch do.Condition {
	case Healthy:
		return "wait until " + names + " is healthy"
	case Completed:
		return "wait until " + names + " has finished well"
	}
	return "wait until " + names + " runs"
}
