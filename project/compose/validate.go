package compose

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/template"
	"go.yaml.in/yaml/v4"

	"github.com/davit-run/davit/project"
	"github.com/davit-run/davit/project/source"
)

// A validator holds one file against the specification, before anything is
// merged: so every mistake has its line, and all of them are found.
type validator struct {
	file  *source.File
	plain bool // ${…} is left alone
	part  bool // what a mapping must have may come from another file
	errs  project.Errors
	path  []string
	steps int
}

// validate returns what is wrong with the form of a file. partial leaves out
// what only a merged model must have.
func validate(f *source.File, noInterpolate, partial bool) project.Errors {
	spec := specification()
	v := &validator{file: f, plain: noInterpolate, part: partial}
	for _, doc := range f.Docs {
		if doc.Kind != yaml.MappingNode {
			v.wrong(doc, "a compose file has keys such as services: and volumes:", "the top level must be a mapping")
			continue
		}
		v.check(doc, spec)
		v.shorts(doc)
	}
	return v.errs
}

// again is wrong for the second look at a value: what was said of it, or of
// something in it, the first time counts.
func (v *validator) again(n *yaml.Node, fix, format string, args ...any) {
	within := strings.Join(v.path, ".") + "."
	for _, e := range v.errs {
		if e.Line == n.Line && e.Column == n.Column || strings.HasPrefix(e.Key, within) {
			return
		}
	}
	v.wrong(n, fix, format, args...)
}

func (v *validator) wrong(n *yaml.Node, fix, format string, args ...any) {
	v.errs = append(v.errs, v.file.Wrong(n, v.path, fix, format, args...))
}

// check holds n against s and notes what does not fit.
func (v *validator) check(n *yaml.Node, s *shape) {
	if v.steps++; v.steps > maxNodes || len(v.errs) > 50 || n.Tag == "!reset" {
		return
	}
	n = resolve(n)
	switch {
	case s.any:
	case len(s.either) > 0:
		v.checkEither(n, s)
	case n.Kind == yaml.MappingNode:
		if v.isKind(n, s, "object") {
			v.checkMapping(n, s)
		}
	case n.Kind == yaml.SequenceNode:
		if v.isKind(n, s, "array") && s.items != nil {
			for i, item := range n.Content {
				v.in(strconv.Itoa(i), func() { v.check(item, s.items) })
			}
		}
	default:
		v.checkScalar(n, s)
	}
}

func (v *validator) in(key string, do func()) {
	v.path = append(v.path, key)
	do()
	v.path = v.path[:len(v.path)-1]
}

func (v *validator) isKind(n *yaml.Node, s *shape, kind string) bool {
	if len(s.types) == 0 || slices.Contains(s.types, kind) {
		return true
	}
	v.wrong(n, "", "must be %s, not %s", readable(s.types), readable([]string{kind}))
	return false
}

func (v *validator) checkMapping(n *yaml.Node, s *shape) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, val := n.Content[i], n.Content[i+1]
		if k.Value == "<<" && k.Kind == yaml.ScalarNode {
			v.checkMerge(val, s)
			continue
		}
		v.in(k.Value, func() { v.checkMember(k, val, s) })
	}
	for _, name := range s.required {
		if !v.part && !has(n, name) {
			v.wrong(n, "add "+name, "%s is missing", name)
		}
	}
}

// checkMerge holds what << takes in against the same shape.
func (v *validator) checkMerge(n *yaml.Node, s *shape) {
	n = resolve(n)
	if n.Kind == yaml.SequenceNode {
		for _, item := range n.Content {
			v.checkMerge(item, s)
		}
		return
	}
	if n.Kind == yaml.MappingNode {
		partial := *s
		partial.required = nil
		v.checkMapping(n, &partial)
	}
}

func (v *validator) checkMember(k, val *yaml.Node, s *shape) {
	if p, ok := s.props[k.Value]; ok {
		v.check(val, p)
		return
	}
	for _, p := range s.patterns {
		if p.re.MatchString(k.Value) {
			v.check(val, p.shape)
			return
		}
	}
	if !s.closed {
		return
	}
	v.unknown(k, s)
}

// unknown tells of a key that the specification does not have here, and which
// was probably meant.
func (v *validator) unknown(k *yaml.Node, s *shape) {
	if len(s.props) == 0 && len(s.patterns) > 0 {
		v.wrong(k, "use letters, digits and . _ - only", "%q is not a name that can be used here", shorten(k.Value))
		return
	}
	fix := ""
	if len(v.path) == 3 && v.path[0] == "services" && slices.Contains([]string{"networks", "volumes", "secrets", "configs"}, v.path[1]) {
		fix = fmt.Sprintf("here %s is read as a service: move it to the left, out of services", v.path[1])
	} else if near := nearest(k.Value, s.props); near != "" {
		fix = fmt.Sprintf("did you mean %q?", near)
	} else if where := elsewhere(k.Value); where != "" {
		fix = fmt.Sprintf("%s belongs %s", k.Value, where)
	} else {
		fix = "take it out, or call it x-" + shorten(k.Value) + " if it is your own"
	}
	v.wrong(k, fix, "%q is not a key that can be used here", shorten(k.Value))
}

// elsewhere says where a key that is often put into the wrong place belongs.
func elsewhere(key string) string {
	spec := specification()
	if _, top := spec.props[key]; top {
		return "at the top level of the file"
	}
	for _, p := range spec.props["services"].patterns {
		if _, ok := p.props[key]; ok {
			return "in a service"
		}
	}
	return ""
}

// checkEither picks the form that the author meant, and tells what is wrong in
// that one.
func (v *validator) checkEither(n *yaml.Node, s *shape) {
	kind := kindOf(n)
	var best project.Errors
	var wanted []string
	for _, alt := range s.either {
		wanted = append(wanted, alt.accepts()...)
		if !slices.Contains(alt.accepts(), kind) && len(alt.accepts()) > 0 && !v.castable(n, alt.accepts()) {
			continue
		}
		trial := &validator{file: v.file, plain: v.plain, part: v.part, path: v.path, steps: v.steps}
		trial.check(n, alt)
		v.steps = trial.steps
		if len(trial.errs) == 0 {
			return
		}
		if best == nil || len(trial.errs) < len(best) {
			best = trial.errs
		}
	}
	if best != nil {
		v.errs = append(v.errs, best...)
		return
	}
	v.wrong(n, "", "must be %s, not %s", readable(wanted), readable([]string{kind}))
}

// accepts are the types a shape takes; none means any.
func (s *shape) accepts() []string {
	var out []string
	for _, alt := range s.either {
		out = append(out, alt.accepts()...)
	}
	if len(s.either) > 0 {
		return out
	}
	if slices.Contains(s.types, "number") {
		return append(slices.Clone(s.types), "integer")
	}
	return s.types
}

func (v *validator) checkScalar(n *yaml.Node, s *shape) {
	if len(s.types) == 0 && len(s.enum) == 0 && s.pattern == nil {
		return
	}
	kind := kindOf(n)
	accepts := s.accepts()
	if len(accepts) > 0 && !slices.Contains(accepts, kind) && !v.castable(n, accepts) {
		v.wrong(n, v.quoteHint(kind, accepts), "must be %s, not %s", readable(s.types), valueAs(n, kind))
		return
	}
	text, known := v.text(n)
	if !known {
		return
	}
	if len(s.enum) > 0 && !slices.Contains(s.enum, text) {
		fix := "use one of: " + strings.Join(s.enum, ", ")
		if near := nearestOf(text, s.enum); near != "" {
			fix = fmt.Sprintf("did you mean %q? (one of: %s)", near, strings.Join(s.enum, ", "))
		}
		v.wrong(n, fix, "%q is not a value that can be used here", shorten(text))
	}
	v.checkText(n, s, kind, text)
}

func (v *validator) checkText(n *yaml.Node, s *shape, kind, text string) {
	if s.pattern != nil && kind == "string" && !s.pattern.MatchString(text) {
		v.wrong(n, patternFix(v.path, s.pattern.String()), "%q is not a value that can be used here", shorten(text))
	}
	if s.min == nil && s.max == nil || kind != "integer" && kind != "number" {
		return
	}
	x, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil:
	case s.min != nil && x < *s.min:
		v.wrong(n, "", "must be greater than or equal to %v", *s.min)
	case s.max != nil && x > *s.max:
		v.wrong(n, "", "must be less than or equal to %v", *s.max)
	}
}

// patternFix says in words what a value must look like.
func patternFix(path []string, pattern string) string {
	switch path[len(path)-1] {
	case "pull_policy":
		return "use one of: always, never, missing, if_not_present, build, refresh, daily, weekly, every_N(w|d|h|m|s)"
	case "container_name":
		return "use letters, digits and _ . - only, a letter or digit first"
	}
	return "it must match " + pattern
}

func (v *validator) quoteHint(kind string, accepts []string) string {
	if slices.Contains(accepts, "string") && !slices.Contains(accepts, "boolean") && !slices.Contains(accepts, "number") && (kind == "integer" || kind == "number" || kind == "boolean") {
		return "put it in quotes"
	}
	return ""
}

// text is a scalar's value once ${…} is replaced; not known when a variable
// that must be set is not.
func (v *validator) text(n *yaml.Node) (string, bool) {
	if v.plain || !strings.Contains(n.Value, "$") {
		return n.Value, !v.plain || !strings.Contains(n.Value, "$")
	}
	out, err := template.SubstituteWithOptions(n.Value, lookup(v.file.Env), template.WithoutLogging)
	return out, err == nil
}

func lookup(env map[string]string) template.Mapping {
	return func(name string) (string, bool) {
		value, ok := env[name]
		return value, ok
	}
}

// castable says whether a string stands for one of the types: the loader turns
// "true" and ${PORT} into what a key wants.
func (v *validator) castable(n *yaml.Node, types []string) bool {
	if n.Kind != yaml.ScalarNode || kindOf(n) != "string" {
		return false
	}
	text, known := v.text(n)
	if !known {
		return true
	}
	for _, t := range types {
		var err error
		switch t {
		case "boolean":
			_, err = strconv.ParseBool(text)
		case "integer":
			_, err = strconv.ParseInt(text, 0, 64)
		case "number":
			_, err = strconv.ParseFloat(text, 64)
		default:
			continue
		}
		if err == nil {
			return true
		}
	}
	return false
}

func has(n *yaml.Node, name string) bool {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return true
		}
		if n.Content[i].Value == "<<" {
			merged := resolve(n.Content[i+1])
			if merged.Kind == yaml.MappingNode && has(merged, name) {
				return true
			}
			for _, item := range merged.Content {
				if merged.Kind == yaml.SequenceNode && has(resolve(item), name) {
					return true
				}
			}
		}
	}
	return false
}

func resolve(n *yaml.Node) *yaml.Node {
	for i := 0; n.Kind == yaml.AliasNode && n.Alias != nil && i < 64; i++ {
		n = n.Alias
	}
	return n
}
