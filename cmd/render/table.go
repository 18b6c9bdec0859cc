package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"text/template"
)

// A Table is rows of named values, shown as a table, as JSON or through a
// template of the user's.
type Table struct {
	// Columns are the headers of the default table and the keys under them.
	Columns []Column
	// Heads are the headers of keys that a template may name beside those.
	Heads map[string]string
	Rows  []map[string]any
	// Wide is the least width of a column; 0: docker's 10.
	Wide int
	// Array makes JSON one array instead of an object a line.
	Array bool
}

// A Column is one column of a table.
type Column struct{ Head, Key string }

// Print writes the table in a format: empty or table, table TEMPLATE, json, or
// a TEMPLATE of Go's text/template for each row.
func (t Table) Print(out io.Writer, format string) error {
	switch {
	case format == "" || format == "table":
		return t.printTable(out)
	case format == "json":
		return t.printJSON(out)
	case strings.HasPrefix(format, "table "):
		return t.printTemplate(out, strings.TrimPrefix(format, "table "), true)
	}
	return t.printTemplate(out, format, false)
}

func (t Table) writer(out io.Writer) *tabwriter.Writer {
	wide := t.Wide
	if wide == 0 {
		wide = 10
	}
	return tabwriter.NewWriter(out, wide, 1, 3, ' ', 0)
}

func (t Table) printTable(out io.Writer) error {
	w := t.writer(out)
	var heads []string
	for _, c := range t.Columns {
		heads = append(heads, c.Head)
	}
	fmt.Fprintln(w, strings.Join(heads, "\t"))
	for _, r := range t.Rows {
		var cells []string
		for _, c := range t.Columns {
			cells = append(cells, fmt.Sprint(r[c.Key]))
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

func (t Table) printJSON(out io.Writer) error {
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	if t.Array {
		rows := make([]json.RawMessage, 0, len(t.Rows))
		for _, r := range t.Rows {
			b, err := t.object(r)
			if err != nil {
				return err
			}
			rows = append(rows, b)
		}
		return e.Encode(rows)
	}
	for _, r := range t.Rows {
		if err := e.Encode(r); err != nil {
			return err
		}
	}
	return nil
}

// object is a row of an array as JSON: its columns first and in their order, as
// docker compose prints its structs, then what else there is.
func (t Table) object(row map[string]any) (json.RawMessage, error) {
	keys := make([]string, 0, len(row))
	for _, c := range t.Columns {
		if _, ok := row[c.Key]; ok && t.Array {
			keys = append(keys, c.Key)
		}
	}
	for _, k := range slices.Sorted(maps.Keys(row)) {
		if !slices.Contains(keys, k) {
			keys = append(keys, k)
		}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	for i, k := range keys {
		b.WriteString([]string{"{", ","}[min(i, 1)])
		if err := e.Encode(k); err != nil {
			return nil, err
		}
		b.WriteByte(':')
		if err := e.Encode(row[k]); err != nil {
			return nil, err
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// escapes are the two that docker's formats know outside of actions.
var escapes = strings.NewReplacer(`\t`, "\t", `\n`, "\n")

func (t Table) printTemplate(out io.Writer, text string, heads bool) error {
	tmpl, err := template.New("format").Funcs(functions).Option("missingkey=error").Parse(escapes.Replace(text))
	if err != nil {
		return fmt.Errorf("--format: %w", err)
	}
	w := t.writer(out)
	if !heads {
		for _, r := range t.Rows {
			if err := execute(tmpl, out, r); err != nil {
				return err
			}
		}
		return nil
	}
	if err := execute(tmpl, w, t.headRow()); err != nil {
		return err
	}
	for _, r := range t.Rows {
		if err := execute(tmpl, w, r); err != nil {
			return err
		}
	}
	return w.Flush()
}

func execute(tmpl *template.Template, out io.Writer, row map[string]any) error {
	if err := tmpl.Execute(out, row); err != nil {
		return fmt.Errorf("--format: %w", err)
	}
	_, err := io.WriteString(out, "\n")
	return err
}

// headRow answers a template with headers instead of values.
func (t Table) headRow() map[string]any {
	row := map[string]any{}
	for _, r := range t.Rows {
		for k := range r {
			row[k] = strings.ToUpper(k)
		}
	}
	for k, h := range t.Heads {
		row[k] = h
	}
	for _, c := range t.Columns {
		row[c.Key] = c.Head
	}
	return row
}

// functions are those that docker's formats offer.
var functions = template.FuncMap{
	"json": func(v any) (string, error) {
		b, err := json.Marshal(v)
		return string(b), err
	},
	"join":  func(list any, sep string) string { return strings.Join(words(list), sep) },
	"split": strings.Split,
	"lower": strings.ToLower,
	"upper": strings.ToUpper,
	"title": func(s string) string {
		if s == "" {
			return s
		}
		return strings.ToUpper(s[:1]) + s[1:]
	},
	"pad": func(s string, before, after int) string {
		return strings.Repeat(" ", before) + s + strings.Repeat(" ", after)
	},
	"truncate": func(s string, n int) string { return s[:min(n, len(s))] },
}

func words(list any) []string {
	switch l := list.(type) {
	case []string:
		return l
	case []any:
		var out []string
		for _, v := range l {
			out = append(out, fmt.Sprint(v))
		}
		return out
	}
	return []string{fmt.Sprint(list)}
}
