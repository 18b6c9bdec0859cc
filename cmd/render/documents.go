package render

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
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
	format = strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(format)
	tmpl, err := template.New("format").Funcs(functions).Option("missingkey=error").Parse(format)
	if err != nil {
		return fmt.Errorf("--format: %w", err)
	}
	for _, v := range all {
		if err := tmpl.Execute(out, v); err != nil {
			return fmt.Errorf("--format: %w", err)
		}
		fmt.Fprintln(out)
	}
	return nil
}
