package source

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/davit-run/davit/project"
)

// A File is one compose file as it is written, and the files it takes in.
type File struct {
	Name    string // as messages show it: relative where that is shorter
	Path    string // absolute, or "-" for standard input
	Dir     string // where relative paths of the file start
	Content []byte
	Docs    []*yaml.Node // the top-level node of every document in the file

	// Includes are the files that include takes in, in order, each group merged
	// on its own first.
	Includes [][]*File
	// Bases are the files that extends.file names, by the name as written.
	Bases map[string]*File
	// Env is what ${…} in this file is replaced from.
	Env map[string]string
}

// Parse reads one compose file. Mistakes are those of YAML itself, values used
// twice as a key, and more of anything than davit's limits allow.
func Parse(name string, content []byte) (*File, project.Errors) {
	f := &File{Name: name, Content: content}
	dec := yaml.NewDecoder(bytes.NewReader(content))
	for {
		var doc yaml.Node
		err := dec.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return f, project.Errors{f.syntax(err)}
		}
		if len(doc.Content) > 0 {
			f.Docs = append(f.Docs, doc.Content[0])
		}
	}
	return f, f.limits()
}

// syntax tells of YAML that cannot be read.
func (f *File) syntax(err error) *project.Error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	line, column := place(text)
	if strings.HasPrefix(text, "offset ") {
		line, column = f.lineOf(after(text, "offset "))
	}
	if i := strings.LastIndex(text, ": "); i >= 0 {
		text = text[i+2:]
	}
	e := f.At(line, column)
	e.What = "not valid YAML: " + text
	e.Fix = hint(text)
	return e
}

// place is where the author must look. Messages have up to two places: what
// was begun, and where it went wrong. A bracket or quote is not closed where it
// was begun; an indentation is wrong where it went wrong. The parser, unlike
// the scanner, counts lines from 0.
func place(text string) (line, column int) {
	begun, _, _ := strings.Cut(text, ": ")
	if !strings.HasPrefix(text, "while parsing") {
		return after(text, "line "), after(begun, "column ")
	}
	_, wrong, _ := strings.Cut(text, ": ")
	if strings.Contains(begun, "flow") && strings.Contains(begun, "at line ") {
		return after(begun, "line ") + 1, after(begun, "column ")
	}
	return after(wrong, "line ") + 1, after(wrong, "column ")
}

// hint says what usually is behind a syntax error.
func hint(text string) string {
	switch {
	case strings.Contains(text, "mapping values are not allowed"):
		return "check the indentation, and put quotes around a value that has \": \" in it"
	case strings.Contains(text, "cannot start any token"):
		return "indent with spaces, not tabs; put quotes around a value that starts with @, ` or %"
	case strings.Contains(text, "unexpected end of stream"):
		return "close the quote that is opened here"
	case strings.Contains(text, "expected ',' or"):
		return "close the bracket that is opened here, or put a comma between its items"
	case strings.Contains(text, "did not find expected"):
		return "check the indentation of this line and the one before"
	case strings.Contains(text, "unknown anchor"):
		return "define the anchor with & before it is used with *"
	case strings.Contains(text, "control characters"), strings.Contains(text, "UTF-8"):
		return "save the file as UTF-8 text"
	}
	return ""
}

// after is the number that follows word in text; 0 when there is none.
func after(text, word string) int {
	_, rest, ok := strings.Cut(text, word)
	if !ok {
		return 0
	}
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	if end < 0 {
		end = len(rest)
	}
	n, err := strconv.Atoi(rest[:end])
	if err != nil {
		return 0
	}
	return n
}

func (f *File) lineOf(offset int) (line, column int) {
	offset = min(offset, len(f.Content))
	before := f.Content[:offset]
	return bytes.Count(before, []byte{'\n'}) + 1, offset - (bytes.LastIndexByte(before, '\n') + 1) + 1
}

// Line is the text of one line, counted from 1; empty when there is none.
// What would move a terminal's cursor is left out.
func (f *File) Line(n int) string {
	rest := f.Content
	for i := 1; n > 0; i++ {
		line, more, found := bytes.Cut(rest, []byte{'\n'})
		if i == n {
			return printable(line)
		}
		if !found {
			break
		}
		rest = more
	}
	return ""
}

const shown = 160 // runes of a line that a message shows

func printable(line []byte) string {
	s := strings.Map(func(r rune) rune {
		switch {
		case r == '\t':
			return ' '
		case r < ' ', r == 0x7f, r >= 0x80 && r < 0xa0:
			return -1
		}
		return r
	}, strings.ToValidUTF8(string(line), "?"))
	if r := []rune(s); len(r) > shown {
		return string(r[:shown]) + "…"
	}
	return s
}

// At is an error with the place and the line filled in.
func (f *File) At(line, column int) *project.Error {
	text := f.Line(line)
	if column > shown {
		column = 0
	}
	return &project.Error{File: f.Name, Line: line, Column: column, Source: text}
}

// Wrong is an error at a node.
func (f *File) Wrong(n *yaml.Node, key []string, fix, format string, args ...any) *project.Error {
	e := f.At(n.Line, n.Column)
	e.Key = printable([]byte(strings.Join(key, ".")))
	e.What = fmt.Sprintf(format, args...)
	e.Fix = fix
	return e
}
