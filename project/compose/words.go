package compose

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// kindOf is a node's type in the schema's words.
func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "object"
	case yaml.SequenceNode:
		return "array"
	}
	switch n.ShortTag() {
	case "!!int":
		return "integer"
	case "!!float":
		return "number"
	case "!!bool":
		return "boolean"
	case "!!null":
		return "null"
	}
	return "string"
}

// readable says types as a person would: "a mapping or a list".
func readable(types []string) string {
	names := map[string]string{
		"object": "a mapping", "array": "a list", "string": "a string", "integer": "a whole number",
		"number": "a number", "boolean": "true or false", "null": "empty",
	}
	var out []string
	for _, t := range []string{"string", "integer", "number", "boolean", "array", "object", "null"} {
		// What may be a string beside a truth value is one with ${…} in it.
		hidden := t == "integer" && slices.Contains(types, "number") || t == "string" && slices.Contains(types, "boolean") && len(types) == 2
		if slices.Contains(types, t) && !hidden {
			out = append(out, names[t])
		}
	}
	if len(out) < 2 {
		return strings.Join(out, "")
	}
	return strings.Join(out[:len(out)-1], ", ") + " or " + out[len(out)-1]
}

// valueAs names a scalar with its type: the number 5, nothing.
func valueAs(n *yaml.Node, kind string) string {
	switch kind {
	case "null":
		return "empty"
	case "integer", "number":
		return "the number " + shorten(n.Value)
	case "boolean":
		return "the truth value " + n.Value
	}
	return fmt.Sprintf("the string %q", shorten(n.Value))
}

func nearest(word string, among map[string]*shape) string {
	return nearestOf(word, slices.Sorted(maps.Keys(among)))
}

// nearestOf is the word that was probably meant: at most a third of its
// letters differ.
func nearestOf(word string, among []string) string {
	if len(word) > 64 {
		return ""
	}
	best, limit := "", max(len(word)/3, 1)+1
	lower := strings.ToLower(strings.ReplaceAll(word, "-", "_"))
	for _, w := range among {
		if d := distance(lower, w, limit); d < limit {
			best, limit = w, d
		}
	}
	return best
}

// distance is how many letters must be put in, taken out, replaced or swapped
// with their neighbour; limit when it is more.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return min(last[len(b)], limit)
}
