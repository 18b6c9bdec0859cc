package compose

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
)

// `config --no-interpolate` shows the files as they are: what the environment
// holds, the text of a secret first of all, does not come into it.
func TestFilesThatAreNotInterpolatedShowNothingOfTheEnvironment(t *testing.T) {
	dir := write(t, map[string]string{"demo/compose.yaml": `
services:
  a:
    image: "x:${TAG:-1}"
    environment: [FROM_OUTSIDE]
    secrets: [s]
secrets:
  s: {environment: FROM_OUTSIDE}
configs:
  c: {environment: FROM_OUTSIDE}
`})
	o := Options{WorkingDir: filepath.Join(dir, "demo"), Environ: []string{"FROM_OUTSIDE=canary", "TAG=canary"}, NoInterpolate: true}
	for _, format := range []string{"yaml", "json"} {
		out, _, err := Render(context.Background(), o, RenderOptions{Format: format})
		if err != nil {
			t.Fatal(err)
		}
		if got := string(out); strings.Contains(got, "canary") || !strings.Contains(got, "x:${TAG:-1}") || strings.Count(got, "FROM_OUTSIDE") != 3 {
			t.Errorf("%s:\n%s", format, got)
		}
	}
}
