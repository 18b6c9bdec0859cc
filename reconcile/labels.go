package reconcile

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// The labels by which compose users and davit find their containers again,
// under the names that docker compose gave them.
const (
	LabelPrefix    = "com.docker.compose."
	LabelProject   = LabelPrefix + "project"
	LabelService   = LabelPrefix + "service"
	LabelNumber    = LabelPrefix + "container-number"
	LabelOneOff    = LabelPrefix + "oneoff"
	LabelHash      = LabelPrefix + "config-hash"
	LabelDependsOn = LabelPrefix + "depends_on"
	LabelImage     = LabelPrefix + "image"
	LabelSlug      = LabelPrefix + "slug"
	LabelReplace   = LabelPrefix + "replace"
	LabelDir       = LabelPrefix + "project.working_dir"
	LabelFiles     = LabelPrefix + "project.config_files"
	LabelVolume    = LabelPrefix + "volume"
	LabelNetwork   = LabelPrefix + "network"
)

// Number is the replica's number, or 0 when the label says none.
func (a ActualContainer) Number() int {
	n, err := strconv.Atoi(a.Spec.Labels[LabelNumber])
	if err != nil {
		return 0
	}
	return n
}

// OneOff says whether the container was made by run.
func (a ActualContainer) OneOff() bool {
	return strings.EqualFold(a.Spec.Labels[LabelOneOff], "true")
}

// Alive says whether the container's process runs, is frozen, or is about to
// be started again by its policy.
func (a ActualContainer) Alive() bool {
	switch a.State.Status {
	case "running", "paused", "restarting":
		return true
	}
	return false
}

// After reads back, from the label, what the container's service depends on.
func (a ActualContainer) After() []Dependency {
	var out []Dependency
	for word := range strings.SplitSeq(a.Spec.Labels[LabelDependsOn], ",") {
		parts := strings.Split(word, ":")
		if parts[0] == "" {
			continue
		}
		d := Dependency{Service: parts[0], Condition: Started}
		if len(parts) > 1 && parts[1] != "" {
			d.Condition = parts[1]
		}
		d.Restart = len(parts) > 2 && parts[2] == "true"
		out = append(out, d)
	}
	return out
}

// labelled returns a container's final labels: those of its definition and
// those that vary by replica.
func labelled(c Container) map[string]string {
	out := maps.Clone(c.Spec.Labels)
	if out == nil {
		out = map[string]string{}
	}
	out[LabelService] = c.Service
	out[LabelNumber] = strconv.Itoa(c.Number)
	if c.Hash != "" {
		out[LabelHash] = c.Hash
	}
	if _, ok := out[LabelOneOff]; !ok {
		out[LabelOneOff] = "False"
	}
	if _, ok := out[LabelDependsOn]; !ok {
		out[LabelDependsOn] = dependsOn(c.After)
	}
	return out
}

func dependsOn(deps []Dependency) string {
	words := make([]string, 0, len(deps))
	for _, d := range deps {
		words = append(words, d.Service+":"+d.Condition+":"+strconv.FormatBool(d.Restart))
	}
	slices.Sort(words)
	return strings.Join(words, ",")
}
