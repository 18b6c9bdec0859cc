package reconcile

import (
	"fmt"
	"testing"

	"github.com/davit-run/davit/engine"
)

// What it takes to plan a project from nothing.
func BenchmarkPlan(b *testing.B) {
	for _, n := range []int{1, 10, 50, 200, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			d := Desired{Project: "p"}
			for i := range n {
				s := fmt.Sprintf("s%d", i)
				d.Services = append(d.Services, s)
				d.Containers = append(d.Containers, Container{Name: "p-" + s + "-1", Service: s, Number: 1,
					Spec: engine.Spec{Image: "busybox", Command: []string{"sleep", "3600"}}})
			}
			for b.Loop() {
				if steps := Plan(d, Actual{}, Options{}); len(steps) < n {
					b.Fatal(len(steps))
				}
			}
		})
	}
}

// Every container of a project that is up is made anew: the plan looks for each
// one's records, lodgers and ports among all the others.
func BenchmarkReplaceAll(b *testing.B) {
	for _, n := range []int{50, 200, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			d, a := Desired{Project: "p"}, Actual{}
			for i := range n {
				s := fmt.Sprintf("s%d", i)
				d.Services = append(d.Services, s)
				d.Containers = append(d.Containers, Container{Name: "p-" + s + "-1", Service: s, Number: 1, Spec: engine.Spec{Image: "busybox"}})
				x := ActualContainer{State: engine.State{Status: engine.Running}}
				x.ID, x.Name, x.Project = fmt.Sprintf("%064d", i), "p-"+s+"-1", "p"
				x.Spec = engine.Spec{Image: "busybox", Labels: map[string]string{LabelService: s}}
				a.Containers = append(a.Containers, x)
			}
			for b.Loop() {
				if steps := Plan(d, a, Options{ForceRecreate: true}); len(steps) < 3*n {
					b.Fatal(len(steps))
				}
			}
		})
	}
}
