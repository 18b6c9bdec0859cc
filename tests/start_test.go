package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/davit-run/davit/tests/kernel"
)

const schemaLibrary = "github.com/santhosh-tekuri/jsonschema/v6"

// TestSchemaLibraryStaysAsleep looks at what sets itself up in front of each
// command: the JSON schema library, a third of that time, is passed over, which
// holds as long as nothing but compose-go's schema check could call it.
func TestSchemaLibraryStaysAsleep(t *testing.T) {
	bin, err := kernel.Binaries()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(bin, "davit"), "version")
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("davit version: %v\n%s", err, out)
	}
	var awake []string
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "init" {
			awake = append(awake, f[1])
		}
	}
	if !slices.Contains(awake, "github.com/distribution/reference") {
		t.Fatalf("the trace does not show what is set up: %v", awake)
	}
	for _, p := range awake {
		if strings.HasPrefix(p, schemaLibrary) {
			t.Errorf("%s is set up in front of davit version", p)
		}
	}
	lookAtSources(t)
	for _, p := range goList(t, "0", "-deps", "./cmd/davit") {
		if p.ImportPath != "github.com/compose-spec/compose-go/v2/schema" && !strings.HasPrefix(p.ImportPath, schemaLibrary) &&
			slices.ContainsFunc(p.Imports, func(i string) bool { return strings.HasPrefix(i, schemaLibrary) }) {
			t.Errorf("%s may call %s, which is not set up in davit", p.ImportPath, schemaLibrary)
		}
	}
}
