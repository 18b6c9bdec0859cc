package artifact

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func unpack(t *testing.T, parts ...Part) (string, error) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "in")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	return dir, Unpack(root, parts)
}

func TestFilesComeBack(t *testing.T) {
	dir, err := unpack(t,
		ComposeFile("/home/ann/compose.yaml", "5.7.0", []byte("one: 1"), false),
		ComposeFile("/home/ann/over.yaml", "5.7.0", []byte("two: 2"), false),
		ComposeFile("abc.yaml", "5.7.0", []byte("base: 3"), true),
		EnvFile("def.env", "5.7.0", []byte("A=1")),
		Part{MediaType: "application/vnd.other", Content: []byte("ignored")})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"compose.yaml": "one: 1\n---\ntwo: 2", "abc.yaml": "base: 3", "def.env": "A=1"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if found, _ := os.ReadDir(dir); len(found) != 3 {
		t.Errorf("%d files", len(found))
	}
}

// TestHostileNames holds CVE-2025-62725's rule: a file's name is one local
// component, or nothing at all is written.
func TestHostileNames(t *testing.T) {
	long := strings.Repeat("x", 256)
	for _, name := range []string{"", ".", "..", "../x", "../../.ssh/authorized_keys", "/etc/cron.d/x", "a/b", `a\b`, `..\x`, "x\x00y", "./x", "x/", long} {
		good := ComposeFile("compose.yaml", "", []byte("a: 1"), false)
		for kind, p := range map[string]Part{
			"env":      {MediaType: EnvType, Annotations: map[string]string{envName: name}},
			"extended": {MediaType: FileType, Annotations: map[string]string{fileName: name, extended: "true"}},
			"main":     {MediaType: FileType, Annotations: map[string]string{fileName: name}},
		} {
			if kind == "main" && name == "" {
				continue // it needs no name
			}
			dir, err := unpack(t, good, p)
			if err == nil || !strings.Contains(err.Error(), "lead out of") {
				t.Errorf("%s %q: %v", kind, name, err)
			}
			if found, _ := filepath.Glob(filepath.Dir(dir) + "/*/*"); len(found) > 0 {
				t.Errorf("%s %q wrote %q", kind, name, found)
			}
		}
	}
	for _, twice := range []string{MainFile, "a.env"} {
		if _, err := unpack(t, ComposeFile("x", "", nil, false), EnvFile("a.env", "", nil), EnvFile(twice, "", nil)); err == nil {
			t.Errorf("%s was written twice", twice)
		}
	}
	if _, err := unpack(t, EnvFile("a.env", "", nil)); err == nil {
		t.Error("an artefact without a compose file")
	}
}
