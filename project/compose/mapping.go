package compose

import "go.yaml.in/yaml/v4"

// value is what a mapping has under a key, its own or merged in with <<; nil
// when there is none.
func value(n *yaml.Node, key string) *yaml.Node {
	for _, p := range pairsOf(n, key) {
		return p.value
	}
	return nil
}

// pairsOf is the one pair that a mapping has under a key, its own or merged in
// with <<, or none.
func pairsOf(n *yaml.Node, key string) []pair {
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return []pair{{n.Content[i], n.Content[i+1]}}
		}
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Tag != "!!merge" {
			continue
		}
		for _, from := range list(n.Content[i+1]) {
			if found := pairsOf(from, key); found != nil {
				return found
			}
		}
	}
	return nil
}

// entries adds to out what a mapping has, its own before what is merged in
// with <<, and returns the names it did not have yet, in their order.
func entries(n *yaml.Node, out map[string]*yaml.Node) (names []string) {
	for _, p := range pairs(n, func(name string) bool { return out[name] != nil }) {
		out[p.key.Value] = p.value
		names = append(names, p.key.Value)
	}
	return names
}

// A pair is a key of a mapping and what it has there.
type pair struct{ key, value *yaml.Node }

// pairs are those of a mapping, its own before what is merged in with <<, each
// key once and without those that are known.
func pairs(n *yaml.Node, known func(string) bool) (out []pair) {
	n = resolve(n)
	if n.Kind != yaml.MappingNode {
		return nil
	}
	seen := map[string]bool{}
	add := func(p pair) {
		if name := p.key.Value; !seen[name] && !known(name) {
			seen[name] = true
			out = append(out, p)
		}
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Tag != "!!merge" {
			add(pair{n.Content[i], n.Content[i+1]})
		}
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Tag == "!!merge" {
			for _, from := range list(n.Content[i+1]) {
				for _, p := range pairs(from, func(name string) bool { return seen[name] || known(name) }) {
					add(p)
				}
			}
		}
	}
	return out
}
