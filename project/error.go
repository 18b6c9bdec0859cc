package project

import (
	"fmt"
	"strings"
)

// A Position is a place in a compose file. Line and Column count from 1; zero
// means that only the file is known.
type Position struct {
	File   string
	Line   int
	Column int
}

// String is FILE:LINE:COLUMN, as far as it is known.
func (p Position) String() string {
	switch {
	case p.File == "":
		return ""
	case p.Line == 0:
		return p.File
	case p.Column == 0:
		return fmt.Sprintf("%s:%d", p.File, p.Line)
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Error is a mistake in a compose file, told so that its author can fix it
// without reading davit's source: where, what, and what to do.
type Error struct {
	File   string
	Line   int
	Column int
	Key    string // such as "services.web.restart"
	What   string // what is wrong, in the terms of the file
	Source string // the line as it is written; empty when it is not known
	Fix    string // the next thing to try; empty when only the author can know
}

// Position is where the mistake stands.
func (e *Error) Position() Position { return Position{e.File, e.Line, e.Column} }

// Error is one line of where and what, then the line of the file, then what to
// do, each indented under the first.
func (e *Error) Error() string {
	var b strings.Builder
	for _, part := range []string{e.Position().String(), e.Key} {
		if part != "" {
			b.WriteString(part)
			b.WriteString(": ")
		}
	}
	b.WriteString(e.What)
	if e.Source != "" {
		fmt.Fprintf(&b, "\n  %5d | %s", e.Line, e.Source)
		if e.Column > 0 {
			fmt.Fprintf(&b, "\n        | %s^", strings.Repeat(" ", e.Column-1))
		}
	}
	if e.Fix != "" {
		b.WriteString("\n  ")
		b.WriteString(e.Fix)
	}
	return b.String()
}

// Errors are all the mistakes found in one go, in the order of the files.
type Errors []*Error

// Error is every mistake, one after the other.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.As find the single mistakes.
func (e Errors) Unwrap() []error {
	out := make([]error, len(e))
	for i, one := range e {
		out[i] = one
	}
	return out
}

// A Warning is something the author should know, and davit goes on.
type Warning struct {
	Position
	Key  string
	Text string
}

// String is where and what in one line.
func (w Warning) String() string {
	out := w.Text
	if w.Key != "" {
		out = w.Key + ": " + out
	}
	if at := w.Position.String(); at != "" {
		out = at + ": " + out
	}
	return out
}
