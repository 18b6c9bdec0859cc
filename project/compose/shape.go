package compose

import (
	"regexp"
	"sync"
)

// A shape is one schema of the compose specification in the form that
// checking a file needs: references followed, allOf folded in.
type shape struct {
	types    []string // any of; empty: anything
	props    map[string]*shape
	patterns []patternShape
	closed   bool // no other keys
	required []string
	items    *shape
	either   []*shape // oneOf and anyOf
	enum     []string
	pattern  *expression
	min, max *float64
	duration bool
	any      bool
}

type patternShape struct {
	re *expression
	*shape
}

// An expression is a regular expression that is compiled when it is first
// asked: most files meet few of the specification's.
type expression struct {
	text string
	once sync.Once
	re   *regexp.Regexp
}

// MatchString reports whether the expression matches somewhere in s.
func (e *expression) MatchString(s string) bool {
	e.once.Do(func() { e.re = regexp.MustCompile(e.text) })
	return e.re.MatchString(s)
}

// String returns the expression as it is written.
func (e *expression) String() string { return e.text }

// specification is the shape of a whole compose file. The library's own
// validator takes 13 ms to prepare and knows no lines; reading the schema takes
// one, and this, from what TestSpecification made of the schema, a twentieth.
var specification = sync.OnceValue(func() *shape { return unfold(flatSpecification) })

// A flatShape is a shape whose parts are named by their place in a table: the
// table is data of the executable, and nothing is computed before it is used.
type flatShape struct {
	types            []string
	props, patterns  []flatPart
	required, enum   []string
	either           []int
	items            int // 0 for none: the first shape is nobody's part
	pattern          string
	min, max         float64
	hasMin, hasMax   bool
	closed, duration bool
	any              bool
}

// A flatPart is the shape that a key, or the keys that match an expression,
// have in a mapping.
type flatPart struct {
	key string
	at  int
}

// unfold makes shapes of a table and returns the first.
func unfold(table []flatShape) *shape {
	shapes := make([]shape, len(table))
	expressions := map[string]*expression{}
	compiled := func(text string) *expression {
		e := expressions[text]
		if e == nil {
			e = &expression{text: text}
			expressions[text] = e
		}
		return e
	}
	for i := range table {
		f, s := &table[i], &shapes[i]
		s.types, s.required, s.enum = f.types, f.required, f.enum
		s.closed, s.duration, s.any = f.closed, f.duration, f.any
		if len(f.props) > 0 {
			s.props = make(map[string]*shape, len(f.props))
		}
		for _, p := range f.props {
			s.props[p.key] = &shapes[p.at]
		}
		for _, p := range f.patterns {
			s.patterns = append(s.patterns, patternShape{compiled(p.key), &shapes[p.at]})
		}
		for _, alt := range f.either {
			s.either = append(s.either, &shapes[alt])
		}
		if f.items > 0 {
			s.items = &shapes[f.items]
		}
		if f.pattern != "" {
			s.pattern = compiled(f.pattern)
		}
		if f.hasMin {
			s.min = &f.min
		}
		if f.hasMax {
			s.max = &f.max
		}
	}
	return &shapes[0]
}
