package cli

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

type versionOptions struct {
	format string
	short  bool
}

func newVersion(g *globals) *cobra.Command {
	var o versionOptions
	c := &cobra.Command{
		Use:   "version [OPTIONS]",
		Short: "Show the version information",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return runVersion(g.out, o)
		},
	}
	c.Flags().StringVarP(&o.format, "format", "f", "", "Format the output. Values: [pretty | json]. (Default: pretty)")
	c.Flags().BoolVar(&o.short, "short", false, "Shows only the version number")
	return c
}

// runVersion prints davit's version; the short and JSON forms are docker
// compose's, which scripts compare.
func runVersion(out io.Writer, o versionOptions) error {
	switch {
	case o.short:
		fmt.Fprintln(out, ComposeVersion)
		return nil
	case o.format == "json":
		return json.NewEncoder(out).Encode(map[string]string{"version": "v" + ComposeVersion, "davit": Version})
	case o.format == "" || o.format == "pretty":
		_, err := fmt.Fprintf(out, "davit version %s (docker compose %s)\n", Version, ComposeVersion)
		return err
	}
	return fmt.Errorf("--format %q: use pretty or json", o.format)
}
