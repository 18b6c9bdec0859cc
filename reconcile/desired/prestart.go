package desired

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"strconv"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/project"
	"github.com/davit-run/davit/reconcile"
)

// preStart are the containers of a service's pre_start hooks: all of them for
// its first replica, and those that ask for it for the others.
func (b *builder) preStart(s *project.Service, c reconcile.Container) []reconcile.Container {
	var out []reconcile.Container
	for i, h := range s.PreStart {
		if c.Number > 1 && !h.PerReplica {
			continue
		}
		spec := b.spec(inherit(s, h))
		spec.Restart, spec.Hooks, spec.Ports = engine.RestartPolicy{}, engine.Hooks{}, nil
		spec.Health = &engine.HealthCheck{Test: []string{"NONE"}}
		for j := range spec.Endpoints { // it is not the service: no name, no address of its
			spec.Endpoints[j].Aliases = nil
			spec.Endpoints[j].IPv4, spec.Endpoints[j].IPv6, spec.Endpoints[j].MAC = "", "", ""
		}
		spec.Labels = maps.Clone(spec.Labels)
		spec.Labels[reconcile.LabelOneOff] = "True"
		spec.Labels[reconcile.LabelHook] = strconv.Itoa(i)
		out = append(out, reconcile.Container{
			Name: fmt.Sprintf("%s-pre-start-%d", c.Name, i+1), Service: s.Name, Number: c.Number,
			Spec: spec, Hash: s.Hash, Origin: c.Origin,
		})
	}
	return out
}

// preStartDigest stands for the pre_start hooks in the definition of a
// container; empty when there are none.
func preStartDigest(hooks []project.PreStart) string {
	if len(hooks) == 0 {
		return ""
	}
	text, err := json.Marshal(hooks)
	if err != nil {
		return err.Error() // not with the types of a Project
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// inherit is the service as a hook sees it: what the hook does not say is the
// service's.
func inherit(s *project.Service, h project.PreStart) *project.Service {
	as := *s
	as.PreStart, as.ContainerName, as.Ports = nil, "", nil
	from, to := reflect.ValueOf(h.Container), reflect.ValueOf(&as.Container).Elem()
	for i := range from.NumField() {
		if v := from.Field(i); !v.IsZero() {
			to.Field(i).Set(v)
		}
	}
	if h.Image != "" {
		as.Build = nil
	}
	return &as
}
