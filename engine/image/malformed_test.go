package image

import (
	"fmt"
	"strings"
	"testing"
)

// TestMalformedManifests: more than 60 manifests that contradict themselves,
// or what they were announced as, or name blobs that are none.
func TestMalformedManifests(t *testing.T) {
	hex := strings.Repeat("a", 64)
	good := `{"digest":"sha256:` + hex + `","size":1}`
	bad := map[string]string{}
	for i, digest := range []string{"", "sha256:", "sha256:" + hex[1:], "sha256:" + hex + "a", "sha256:" + strings.ToUpper(hex), "sha512:" + hex + hex,
		"md5:" + hex[:32], hex, "sha256:../../../../etc/passwd", "sha256:" + hex[:63] + "/", "sha256:" + hex[:63] + `\u0000`, "SHA256:" + hex, "sha256-" + hex, " sha256:" + hex} {
		one := `{"digest":"` + digest + `","size":1}`
		bad[fmt.Sprintf("digest %d of the configuration", i)] = `{"schemaVersion":2,"config":` + one + `,"layers":[` + good + `]}`
		bad[fmt.Sprintf("digest %d of a layer", i)] = `{"schemaVersion":2,"config":` + good + `,"layers":[` + good + `,` + one + `]}`
		bad[fmt.Sprintf("digest %d of an index", i)] = `{"schemaVersion":2,"manifests":[` + good + `,` + one + `]}`
	}
	for i, size := range []string{"-1", "-9223372036854775808", "9223372036854775808", `"1"`, "1.5", "[]"} {
		one := `{"digest":"sha256:` + hex + `","size":` + size + `}`
		bad[fmt.Sprintf("size %d of the configuration", i)] = `{"schemaVersion":2,"config":` + one + `,"layers":[]}`
		bad[fmt.Sprintf("size %d of a layer", i)] = `{"schemaVersion":2,"config":` + good + `,"layers":[` + one + `]}`
	}
	for i, b := range []string{
		``, `null`, `[]`, `"manifest"`, `7`, `{`, `{}`, `<html>`, `{"schemaVersion":2}`, `{"schemaVersion":1,"fsLayers":[]}`, `{"schemaVersion":3,"config":` + good + `,"layers":[]}`,
		`{"config":` + good + `,"layers":[]}`, `{"schemaVersion":2,"manifests":[` + good + `],"layers":[` + good + `]}`,
		`{"schemaVersion":2,"manifests":[` + good + `],"config":` + good + `}`, `{"schemaVersion":2,"manifests":[],"layers":[],"config":` + good + `}`,
		`{"schemaVersion":2,"mediaType":"` + TypeIndex + `","config":` + good + `,"layers":[]}`, `{"schemaVersion":2,"mediaType":"` + TypeManifest + `","manifests":[` + good + `]}`,
		`{"schemaVersion":2,"mediaType":"` + TypeDockerManifest + `","manifests":[` + good + `]}`, `{"schemaVersion":2,"config":` + good + `,"layers":` + good + `}`,
		`{"schemaVersion":2,"config":{"digest":"sha256:` + hex + `","size":99999999999},"layers":[]}`, strings.Repeat("[", 100_000), `{"schemaVersion":2,"config":` + good + `,"layers":[` + strings.Repeat(good+",", 600) + good + `]}`,
	} {
		bad[fmt.Sprintf("shape %d", i)] = b
	}
	if len(bad) < 60 {
		t.Errorf("only %d manifests", len(bad))
	}
	for name, b := range bad {
		if m, err := ParseManifest([]byte(b), ""); err == nil {
			t.Errorf("%s: taken as %+v", name, m)
		}
	}
	image := `{"schemaVersion":2,"config":` + good + `,"layers":[]}`
	for _, announced := range []string{TypeIndex, TypeDockerIndex} {
		if _, err := ParseManifest([]byte(image), announced); err == nil {
			t.Errorf("an image was taken that was announced as %s", announced)
		}
	}
	for _, announced := range []string{"", TypeManifest, TypeDockerManifest} {
		if _, err := ParseManifest([]byte(image), announced); err != nil {
			t.Errorf("a good one, announced as %q: %v", announced, err)
		}
	}
}
