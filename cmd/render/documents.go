package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"text/template"
)

// Documents prints what an inspect command found: one indented JSON array, the
// same on one line for json, or each value through a TEMPLATE of Go's
// text/template.
func Documents(out io.Writer, format string, all []any) error {
	if all == nil {
		all = []any{}
	}
	if format == "" || format == "json" {
		e := json.NewEncoder(out)
		e.SetEscapeHTML(false)
		if format == "" {
			e.SetIndent("", "    ")
		}
		return e.Encode(all)
	}
	tmpl, err := template.New("format").Funcs(functions).Option("missingkey=error").Parse(escapes.Replace(format))
	if err != nil {
		return fmt.Errorf("--format: %w", err)
	}
	for _, v := range all {
		line, err := fill(tmpl, v)
		if err != nil {
			return fmt.Errorf("--format: %w", err)
		}
		fmt.Fprintln(out, line)
	}
	return nil
}

// fill runs a template on a value and, where that has no such field, on its
// JSON: both .ID and .Id name an image's id, as with docker.
func fill(tmpl *template.Template, v any) (string, error) {
	var b bytes.Buffer
	first := tmpl.Execute(&b, v)
	if first == nil {
		return b.String(), nil
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return "", err
	}
	var m any
	if err := json.Unmarshal(raw, &m); err != nil {
		return "", err
	}
	b.Reset()
	if tmpl.Execute(&b, m) != nil {
		return "", first
	}
	return b.String(), nil
}
