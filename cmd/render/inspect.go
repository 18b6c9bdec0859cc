package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

// Inspect prints things as docker's inspect commands do: one JSON array,
// compact with format json; any other format is a Go template for each, over
// the names of their JSON form.
func Inspect(out io.Writer, format string, all []any) error {
	if all == nil {
		all = []any{}
	}
	e := json.NewEncoder(out)
	e.SetEscapeHTML(false)
	switch format {
	case "":
		e.SetIndent("", "    ")
		return e.Encode(all)
	case "json":
		return e.Encode(all)
	}
	t := Table{}
	for _, one := range all {
		row, err := generic(one)
		if err != nil {
			return err
		}
		t.Rows = append(t.Rows, row)
	}
	return t.Print(out, format)
}

// generic is a value as templates see it: maps, lists and words.
func generic(v any) (map[string]any, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("inspect: %w", err)
	}
	var out map[string]any
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	return out, d.Decode(&out)
}
