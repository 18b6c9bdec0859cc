package compose

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/davit-run/davit/project"
)

// seeds adds every compose.yaml of the stories.
func seeds(f *testing.F) {
	f.Helper()
	paths, err := filepath.Glob("testdata/*/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range paths {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range archive.Files {
			if file.Name == "compose.yaml" {
				f.Add(string(file.Data))
			}
		}
	}
}

// FuzzLoad holds that no file makes the loader panic, and that every refusal
// has a place or at least a file.
func FuzzLoad(f *testing.F) {
	seeds(f)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, file string) {
		if strings.Contains(file, "/dev/") || strings.Contains(file, "/proc/") {
			t.Skip("reads what is no file")
		}
		_, _, err := Load(context.Background(), Options{
			WorkingDir: dir, Files: []string{"-"}, Stdin: strings.NewReader(file), Environ: []string{"HOME=/root"}, ProjectName: "fuzz",
		})
		if err == nil {
			return
		}
		var one *project.Error
		if !errors.As(err, &one) {
			t.Errorf("an error without a place: %v", err)
		}
		if strings.Contains(err.Error(), "the loader stopped") {
			t.Errorf("a panic: %v", err)
		}
	})
}

// FuzzInterpolate holds that ${…} in any form neither panics nor hangs.
func FuzzInterpolate(f *testing.F) {
	for _, s := range []string{"$A", "${A}", "${A:-b}", "${A-b}", "${A:?e}", "${A?e}", "${A:+r}", "${A+r}", "$$A", "${A:-${B:-c}}", "${", "$", "${}", "${A:-$}", "${A:-}}", "$${A}", "${A:-${B}", "a$b$c"} {
		f.Add(s)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, s string) {
		file := "services:\n  a:\n    image: x\n    hostname: " + quote(s) + "\n"
		_, _, err := Load(context.Background(), Options{
			WorkingDir: dir, Files: []string{"-"}, Stdin: strings.NewReader(file), Environ: []string{"B=b"}, ProjectName: "fuzz",
		})
		if err != nil && strings.Contains(err.Error(), "the loader stopped") {
			t.Error(err)
		}
	})
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// FuzzShortForms holds the same for ports and volumes in their short forms.
func FuzzShortForms(f *testing.F) {
	for _, s := range []string{"80", "80:80", "127.0.0.1:80:80/udp", "[::1]:80:80", "80-90:80-90", "a:/b", "./a:/b:ro,z", "/a", "C:\\x:/y", ":::", "a:/b:rw,rslave", "0:0"} {
		f.Add(s)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, s string) {
		if len(s) > 200 {
			t.Skip("long ranges are another test")
		}
		for _, key := range []string{"ports", "volumes", "tmpfs", "extra_hosts", "devices", "env_file", "ulimits"} {
			file := "services:\n  a:\n    image: x\n    " + key + ": [" + quote(strings.ReplaceAll(s, "\n", " ")) + "]\n"
			_, _, err := Load(context.Background(), Options{
				WorkingDir: dir, Files: []string{"-"}, Stdin: strings.NewReader(file), Environ: []string{}, ProjectName: "fuzz",
			})
			if err != nil && strings.Contains(err.Error(), "the loader stopped") {
				t.Errorf("%s: %v", key, err)
			}
		}
	})
}
