package compose

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// many is the directory of a project of n services.
func many(b *testing.B, n int) Options {
	b.Helper()
	var f strings.Builder
	f.WriteString("services:\n")
	for i := range n {
		fmt.Fprintf(&f, "  s%d: {image: busybox, command: sleep 3600, environment: {A: b}, ports: ['%d:80']}\n", i, 20000+i)
	}
	dir := b.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "compose.yaml"), []byte(f.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	return Options{WorkingDir: dir, Environ: []string{"HOME=/root"}}
}

// What up, config and their like pay before anything else.
func BenchmarkLoad(b *testing.B) {
	for _, n := range []int{1, 10, 50, 200, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			o := many(b, n)
			for b.Loop() {
				if _, _, err := Load(context.Background(), o); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// What ps, exec, logs and their like pay.
func BenchmarkBrief(b *testing.B) {
	for _, n := range []int{1, 10, 50, 200, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			o := many(b, n)
			for b.Loop() {
				if _, services, _, err := Brief(b.Context(), o); err != nil || len(services) != n {
					b.Fatal(len(services), err)
				}
			}
		})
	}
}

func TestBriefAgreesWithLoad(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range map[string]string{
		"directory":    "services: {a: {image: x}}\n",
		"written":      "name: from-file\nservices: {a: {image: x}}\n",
		"interpolated": "name: ${NAME:-other}\nservices: {a: {image: x}}\n",
		"anchored":     "x-n: &n anchored\nname: *n\nservices: {a: {image: x}}\n",
	} {
		t.Run(name, func(t *testing.T) {
			write("compose.yaml", text)
			for _, env := range [][]string{nil, {"NAME=set"}, {"COMPOSE_PROJECT_NAME=env"}} {
				o := Options{WorkingDir: dir, Environ: append([]string{"HOME=/root"}, env...)}
				p, _, err := Load(context.Background(), o)
				if err != nil {
					t.Fatal(err)
				}
				got, services, _, err := Brief(t.Context(), o)
				if err != nil || got != p.Name || len(services) != 1 || services[0] != "a" {
					t.Errorf("%v: brief %q %v %v, load %q", env, got, services, err, p.Name)
				}
			}
		})
	}
	write("compose.yaml", "services: {a: {imag: x}}\n")
	if _, _, _, err := Brief(t.Context(), Options{WorkingDir: dir}); err == nil {
		t.Error("a mistake is not told")
	}
}
