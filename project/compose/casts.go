package compose

import (
	"strings"

	"go.yaml.in/yaml/v4"
)

// castable are the keys at which the library turns a string into a number or a
// truth value (loader/interpolate.go of compose-go v2.16.2). It holds every
// string of a file against all of them, a third of the time that loading takes,
// so where no file has a string at any of these keys they are left out.
var castable = []string{
	"external", "internal", "attachable", "enable_ipv4", "enable_ipv6", "cpu_count", "cpu_percent", "cpu_period",
	"cpu_quota", "cpu_rt_period", "cpu_rt_runtime", "cpus", "cpu_shares", "init", "use_service_name_alias",
	"oom_kill_disable", "oom_score_adj", "pids_limit", "privileged", "read_only", "umask", "ulimits", "hard", "soft",
	"nocopy", "required", "restart", "retries", "disable", "target", "stdin_open", "tty", "replicas", "parallelism",
	"max_failure_ratio", "max_attempts", "max_replicas_per_node", "scale",
}

// casts says whether any file has a string where the library may have to turn
// it into something else.
func (t *tree) casts() bool {
	keys := make(map[string]bool, len(castable))
	for _, k := range castable {
		keys[k] = true
	}
	for _, f := range t.index.All() {
		for _, doc := range f.Docs {
			if castsIn(doc, keys, 0) {
				return true
			}
		}
	}
	return false
}

func castsIn(n *yaml.Node, keys map[string]bool, depth int) bool {
	if depth > 8 { // no such key is deeper
		return false
	}
	n = resolve(n)
	switch n.Kind {
	case yaml.SequenceNode:
		for _, item := range n.Content {
			if castsIn(item, keys, depth+1) {
				return true
			}
		}
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			k, v := n.Content[i].Value, resolve(n.Content[i+1])
			if keys[k] && needsCast(k, v, depth) || castsIn(v, keys, depth+1) {
				return true
			}
		}
	}
	return false
}

// needsCast says whether a value at such a key is a string. restart is a
// policy in a service and a truth value in depends_on; a target is a path but
// in ports, and every mapping of ulimits may have strings.
func needsCast(key string, v *yaml.Node, depth int) bool {
	if v.Kind == yaml.MappingNode && key == "ulimits" {
		return true
	}
	if v.Kind != yaml.ScalarNode || kindOf(v) != "string" {
		return false
	}
	switch key {
	case "restart":
		return depth > 2
	case "target":
		return !strings.HasPrefix(v.Value, "/")
	}
	return true
}
