package compose

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/project"
	"github.com/davit-run/davit/tests/kernel"
)

// lines repeats a format n times with the line's number.
func lines(n int, format string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// layers is services of which each needs all of the next layer's.
func layers(count, width int) string {
	var b strings.Builder
	b.WriteString("services:\n")
	for l := range count {
		for w := range width {
			fmt.Fprintf(&b, "  s%d-%d:\n    image: busybox\n", l, w)
			if l+1 < count {
				b.WriteString("    depends_on:\n" + strings.ReplaceAll(lines(width, "      - sL-%d\n"), "sL", fmt.Sprintf("s%d", l+1)))
			}
		}
	}
	return b.String()
}

func bomb(levels int) string {
	var b strings.Builder
	b.WriteString("x-0: &a0 [x, x, x, x, x, x, x, x, x, x]\n")
	for i := 1; i < levels; i++ {
		fmt.Fprintf(&b, "x-%d: &a%d [%s]\n", i, i, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i-1), 10), ", "))
	}
	return b.String() + "services: {a: {image: x}}\n"
}

// Files made to hurt are refused, with the limit or the mistake named, in less
// than two seconds and 256 MiB.
func TestHostileFilesAreRefused(t *testing.T) {
	service := "services:\n  a:\n    image: x\n"
	for name, c := range map[string]struct{ file, want string }{
		"9 MiB":                           {strings.Repeat("# comment\n", 1<<20), "larger than 8 MiB"},
		"aliases that multiply":           {bomb(9), "1,000,000 values"},
		"merges that multiply":            {strings.ReplaceAll(bomb(8), "x-", "y-"), "1,000,000 values"},
		"10,000 brackets":                 {service + "    command: " + strings.Repeat("[", 9990) + strings.Repeat("]", 9990), "deeper than 128 levels"},
		"200,000 brackets":                {strings.Repeat("[", 200_000), "exceeded max depth"},
		"200 dashes":                      {"x-a:\n  " + strings.Repeat("- ", 200) + "x\n" + service, "deeper than 128 levels"},
		"nested mappings":                 {"x-a: " + strings.Repeat("{a: ", 1000) + strings.Repeat("}", 1000) + "\n" + service, "deeper than 128 levels"},
		"20,000 keys":                     {service + "    labels:\n" + lines(20_000, "      k%d: v\n"), "5000 are the most"},
		"30,000 services":                 {"services:\n" + lines(30_000, "  s%d: {image: x}\n"), "5000 are the most"},
		"20,000 aliases":                  {"x-a: &a b\nx-b:\n" + lines(20_000, "  - *a # %d\n") + service, "10,000 aliases"},
		"1,000 nested variables":          {service + "    hostname: \"" + strings.Repeat("${A:-", 1000) + strings.Repeat("}", 1000) + "\"\n", "more than 64 times"},
		"20,000 nested variables":         {service + "    hostname: \"" + strings.Repeat("${A:-", 20_000) + strings.Repeat("}", 20_000) + "\"\n", "more than 64 times"},
		"a key of 1 MB":                   {"services:\n  ? " + strings.Repeat("a", 1<<20) + "/\n  : {image: x}\n", "not a name"},
		"an alias within itself":          {"x-a: &a [*a]\n" + service, "within itself"},
		"a mapping merged into itself":    {"services:\n  a: &a\n    <<: *a\n    image: x\n", "within itself"},
		"a zero byte":                     {service + "    hostname: \x00\n", "not valid YAML"},
		"not UTF-8":                       {service + "    hostname: \xff\xfe\n", "not valid YAML"},
		"an escape sequence for terminal": {"services:\n  \"a\\e[31m\": {image: x}\n", "not a name"},
		"a name with a slash":             {"services:\n  ../../etc: {image: x}\n", "not a name"},
		"a cycle of 50":                   {"services:\n" + lines(50, "  s%[1]d: {image: x, depends_on: [s%[1]d-]}\n"), "undefined service"},
		"a very long range of ports":      {service + "    ports: [\"1-65535:1-65535\", \"1-65535:1-65534\"]\n", "not a port"},
		"keys that are mappings":          {"services:\n  ? {a: b}\n  : {image: x}\n", ""},
		"a number of 10,000 digits":       {service + "    scale: " + strings.Repeat("9", 10_000) + "\n", ""},
		"4,900 merges of 100 keys":        {"x-a: &a\n" + lines(100, "  k%d: v\n") + "services:\n  a:\n    image: x\n    labels:\n      <<: [" + strings.TrimSuffix(strings.Repeat("*a, ", 4900), ", ") + "]\n", ""},
		"services behind 2,500 merges":    {"x-a: &a\n" + lines(90, "  s%d: {extends: none}\n") + "services:\n  <<: [" + strings.TrimSuffix(strings.Repeat("*a, ", 2500), ", ") + "]\n" + lines(4000, "  t%d: {extends: nope}\n"), "not there to be extended"},
		"a tag that does not exist":       {"services:\n  a: !!python/object {image: x}\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := write(t, map[string]string{"compose.yaml": c.file})
			took, used, err := measure(t, func() error {
				_, _, err := Load(context.Background(), Options{WorkingDir: dir, Environ: []string{}})
				return err
			})
			if err == nil && c.want != "" {
				t.Fatal("loaded")
			}
			if err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %.300q, want %q in it", err, c.want)
			}
			if err != nil && len(err.Error()) > 20_000 {
				t.Errorf("an error of %d bytes", len(err.Error()))
			}
			if took > 2*time.Second || used > 256<<20 {
				t.Errorf("took %s and %d MiB", took, used>>20)
			}
			if err != nil && strings.ContainsAny(err.Error(), "\x00\x1b") {
				t.Errorf("control characters in %q", err)
			}
		})
	}
}

// Services count wherever they come from.
func TestServicesOfAllFilesCount(t *testing.T) {
	files := map[string]string{"compose.yaml": "include: [one.yaml, two.yaml]\n"}
	for _, name := range []string{"one", "two"} {
		files[name+".yaml"] = "services:\n" + lines(3000, "  "+name+"%d: {image: x}\n")
	}
	dir := write(t, files)
	_, _, err := Load(context.Background(), Options{WorkingDir: dir, Environ: []string{}})
	if err == nil || !strings.Contains(err.Error(), "has 6000 services with all that it includes; 5000 are the most") {
		t.Errorf("%.300v", err)
	}
}

// measure is how long do runs on processors, whatever else the machine does,
// and how many bytes it allocates in all.
func measure(t *testing.T, do func() error) (time.Duration, uint64, error) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := onProcessors(t)
	err := do()
	took := onProcessors(t) - start
	runtime.ReadMemStats(&after)
	return took, after.TotalAlloc - before.TotalAlloc, err
}

// Layers of dependencies are what the library's own check is exponential in:
// 50 services take it 18 s.
func TestLayeredDependenciesLoad(t *testing.T) {
	dir := write(t, map[string]string{"compose.yaml": layers(20, 10)})
	took, _, err := measure(t, func() error {
		_, _, err := Load(context.Background(), Options{WorkingDir: dir, Environ: []string{}})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if took > 2*time.Second {
		t.Errorf("200 services took %s", took)
	}
}

// A long cycle is found and named, whichever key makes it.
func TestCyclesOfAnyLength(t *testing.T) {
	for _, length := range []int{1, 2, 3, 10, 50} {
		for key, format := range map[string]string{
			"depends_on": "depends_on: [s%d]", "network_mode": "network_mode: service:s%d", "volumes_from": "volumes_from: [s%d]",
			"links": "links: [s%d]", "pid": "pid: service:s%d", "extends": "extends: s%d",
		} {
			t.Run(fmt.Sprint(key, length), func(t *testing.T) {
				file := "services:\n"
				for i := range length {
					file += fmt.Sprintf("  s%d:\n    image: x\n    "+format+"\n", i, (i+1)%length)
				}
				dir := write(t, map[string]string{"compose.yaml": file})
				_, _, err := Load(context.Background(), Options{WorkingDir: dir, Environ: []string{}})
				var one *project.Error
				if !errors.As(err, &one) || !strings.Contains(one.What, "cycle: s0") || one.Line == 0 {
					t.Errorf("got %v", err)
				}
			})
		}
	}
}

// Includes in a circle are named file by file.
func TestIncludeCyclesOfAnyLength(t *testing.T) {
	for _, length := range []int{1, 2, 50} {
		files := map[string]string{}
		for i := range length {
			files[fmt.Sprintf("f%d.yaml", i)] = fmt.Sprintf("include: [f%d.yaml]\nservices: {s%d: {image: x}}\n", (i+1)%length, i)
		}
		dir := write(t, files)
		_, _, err := Load(context.Background(), Options{WorkingDir: dir, Files: []string{"f0.yaml"}, Environ: []string{}})
		if err == nil || !strings.Contains(err.Error(), "include cycle: f0.yaml -> ") {
			t.Errorf("%d files: %v", length, err)
		}
	}
}

// A file of a remote place is refused before anything is fetched or written.
func TestNothingIsWritten(t *testing.T) {
	dir := write(t, map[string]string{"compose.yaml": "include: [\"oci://registry.invalid/../../x\"]\nservices: {a: {image: x}}\n"})
	if _, _, err := Load(context.Background(), Options{WorkingDir: dir, Environ: []string{}}); err == nil {
		t.Error("loaded")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != filepath.Base("compose.yaml") {
		t.Errorf("left behind: %v %v", entries, err)
	}
}

// A variable of one service never reaches another (CVE-2020-14370).
func TestEnvironmentsDoNotMix(t *testing.T) {
	var b strings.Builder
	b.WriteString("services:\n")
	for i := range 50 {
		fmt.Fprintf(&b, "  s%d:\n    image: x\n    env_file: e%d\n    environment: {V%d: x}\n", i, i, i)
	}
	files := map[string]string{"compose.yaml": b.String()}
	for i := range 50 {
		files[fmt.Sprintf("e%d", i)] = fmt.Sprintf("E%d=y\n", i)
	}
	p, _, err := Load(context.Background(), Options{WorkingDir: write(t, files), Environ: []string{}})
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range p.Services {
		if len(s.Environment) != 2 || s.Environment["V"+name[1:]] == nil || s.Environment["E"+name[1:]] == nil {
			t.Errorf("%s has %v", name, s.Environment)
		}
	}
}

// 2,000 services in layers of twenty, each of which needs the whole next layer:
// 39,600 edges, in less than a second. Tests run beside each other, so that the
// time on processors is what counts; those of a busy machine are shared, and slower.
func TestManyLayersLoadQuickly(t *testing.T) {
	dir := write(t, map[string]string{"compose.yaml": layers(100, 20)})
	best := time.Hour
	for range 5 {
		before := onProcessors(t)
		if _, _, err := Load(context.Background(), Options{WorkingDir: dir, Environ: []string{}}); err != nil {
			t.Fatal(err)
		}
		if best = min(best, onProcessors(t)-before); best < time.Second {
			return
		}
	}
	if best > kernel.Promptly(time.Second) {
		t.Errorf("2,000 services took %s of processor time at best", best)
	}
}

// onProcessors is how long this process has been running on processors.
func onProcessors(t *testing.T) time.Duration {
	t.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
