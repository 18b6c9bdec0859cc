package cli

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/davit-run/davit/cmd/render"
	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/netdns"
	"github.com/davit-run/davit/reconcile"
)

// warnOptions tells of driver options that have no effect here.
func (s *session) warnOptions() {
	for _, n := range s.desired.Networks {
		for _, o := range slices.Sorted(maps.Keys(n.Options)) {
			if !n.External && !netdns.Known(o) {
				s.say("davit: warning: networks.%s.driver_opts: %s has no effect", n.Key, o)
			}
		}
	}
	told := map[string]bool{}
	for _, c := range s.desired.Containers {
		for _, e := range c.Spec.Endpoints {
			for _, o := range slices.Sorted(maps.Keys(e.DriverOpts)) {
				where := fmt.Sprintf("services.%s.networks: driver_opts: %s on %s", c.Service, o, e.Network)
				if !netdns.KnownAtEndpoint(o) && !told[where] {
					told[where] = true
					s.say("davit: warning: %s has no effect", where)
				}
			}
		}
	}
}

// checkPorts refuses a plan whose containers could not publish their ports,
// before anything of it is done: each port that is taken is named with its
// holder and the line to change.
func (s *session) checkPorts(steps []reconcile.Step) error {
	ours := s.leaving(steps)
	claimed := map[string]string{}
	var wrong []error
	for _, step := range steps {
		name := publisher(step.Do)
		for _, c := range s.desired.Containers {
			if c.Name != name || c.Spec.NetworkMode != "" {
				continue
			}
			for i, p := range c.Spec.Ports {
				if err := s.checkPort(c, i, p, ours, claimed); err != nil {
					wrong = append(wrong, err)
				}
			}
		}
	}
	return errors.Join(wrong...)
}

// publisher names the container that an action makes publish ports.
func publisher(do reconcile.Action) string {
	switch do := do.(type) {
	case reconcile.StartContainer:
		return do.Name
	case reconcile.UpdateContainer:
		return do.Name
	}
	return ""
}

func (s *session) checkPort(c reconcile.Container, i int, p engine.Port, ours map[string]bool, claimed map[string]string) error {
	err := s.engine.PortFree(p, ours)
	fix := "stop that process, or change the host port"
	key := fmt.Sprintf("%s %d/%s", p.HostIP, p.HostPort, p.Protocol)
	if by := claimed[key]; err == nil && by != "" && p.HostPort != 0 && p.HostPortEnd == 0 {
		err = fmt.Errorf("publish port %d: container %s is to publish it too", p.HostPort, by)
		fix = "change the host port of one"
	}
	claimed[key] = c.Name
	if err == nil {
		return nil
	}
	if strings.Contains(err.Error(), "in use by container") {
		fix = "stop that container, or change the host port"
	}
	if at := s.project.Origin("services." + c.Service + ".ports." + strconv.Itoa(i)); at.File != "" {
		at.Column, at.File = 0, render.Here(at.File)
		fix += " at " + at.String()
	}
	return fmt.Errorf("start container %s: %w\n  %s", c.Name, err, fix)
}

// leaving are the ids of the project's containers that give back their ports
// before others take them: those that the plan stops or removes, and those whose
// place another takes.
func (s *session) leaving(steps []reconcile.Step) map[string]bool {
	out := map[string]bool{}
	starts := map[string]bool{}
	for _, step := range steps {
		switch do := step.Do.(type) {
		case reconcile.StopContainer:
			out[do.ID] = true
		case reconcile.RemoveContainer:
			out[do.ID] = true
		case reconcile.UpdateContainer:
			out[do.ID] = true
		case reconcile.StartContainer:
			starts[do.Name] = true
		}
	}
	for _, a := range s.actual.Containers {
		if starts[a.Name] {
			out[a.ID] = true
		}
	}
	return out
}
