package reconcile

import (
	"slices"
	"testing"

	"github.com/davit-run/davit/engine"
)

// A command that dies while it replaces a container leaves two of one name.
// What both are on goes only after both.
func TestDownWaitsForBothContainersOfOneName(t *testing.T) {
	one := func(id string, status engine.Status) ActualContainer {
		a := ActualContainer{State: engine.State{Status: status}}
		a.ID, a.Name, a.Project, a.Volumes = id, "p-db-1", "p", map[string]string{"/data": "p_data"}
		a.Spec = engine.Spec{Image: "db", Labels: map[string]string{LabelService: "db"}, Endpoints: []engine.EndpointSpec{{Network: "p_net"}}}
		return a
	}
	actual := Actual{
		Networks:   map[string]engine.Network{"p_net": {Name: "p_net", Project: "p"}},
		Volumes:    map[string]engine.Volume{"p_data": {Name: "p_data", Project: "p"}},
		Images:     map[string]string{"db": "sha256:1"},
		Containers: []ActualContainer{one("a", engine.Running), one("b", engine.Created)},
	}
	steps := Down(Desired{Project: "p"}, actual, Options{Volumes: true, Images: "all"})
	var removals, leaves []int // a network is left when a container has stopped
	for _, s := range steps {
		switch do := s.Do.(type) {
		case StopContainer:
			leaves = append(leaves, s.ID)
		case RemoveContainer:
			removals = append(removals, s.ID)
			if do.ID == "b" {
				leaves = append(leaves, s.ID)
			}
		}
	}
	if len(removals) != 2 || len(leaves) != 2 {
		t.Fatalf("%d containers are removed, %d leave the network", len(removals), len(leaves))
	}
	checked := 0
	for _, s := range steps {
		switch s.Do.(type) {
		case RemoveNetwork, RemoveVolume, RemoveImage:
			checked++
			after := removals
			if _, ok := s.Do.(RemoveNetwork); ok {
				after = leaves
			}
			for _, r := range after {
				if !slices.Contains(s.After, r) {
					t.Errorf("%T does not wait for step %d: %v", s.Do, r, s.After)
				}
			}
		}
	}
	if checked != 3 {
		t.Errorf("%d of network, volume and image are removed", checked)
	}
}
