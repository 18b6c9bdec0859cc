package render

import (
	"fmt"
	"io"

	"github.com/davit-run/davit/reconcile"
)

// Plan prints the steps that would be done, for --dry-run.
func Plan(out io.Writer, steps []reconcile.Step) error {
	if len(steps) == 0 {
		_, err := fmt.Fprintln(out, "nothing to do")
		return err
	}
	_, err := io.WriteString(out, reconcile.Text(steps))
	return err
}
