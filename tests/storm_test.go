package tests

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/davit-run/davit/tests/kernel"
	"github.com/davit-run/davit/tests/picture"
)

// stormy is a project whose container gets what is in src, but for what is
// ignored: by the rule, by the .dockerignore of its build, and of both again
// some that is excepted.
const stormy = `
services:
  web:
    build: .
    command: sleep 3600
    user: "1234:1235"
    stop_signal: SIGKILL
    develop:
      watch: [{action: sync, path: ./src, target: /app, ignore: ["**/skip", "**/*.tmp"]}]
`

// A storm of random edits, while davit watches, leaves the container's tree
// equal to the filtered tree of the host: names, kinds, modes, contents, links,
// all of it the container's user's.
func TestEditStormsReachTheContainer(t *testing.T) {
	operations := kernel.Tenth(10_000)
	h := newHost(t, "storm", stormy)
	check(t, os.WriteFile(filepath.Join(h.dir, "Dockerfile"), []byte("FROM busybox\n"), 0o644))
	check(t, os.WriteFile(filepath.Join(h.dir, ".dockerignore"), []byte("src/*/no\n!src/c/no\n"), 0o644))
	src := filepath.Join(h.dir, "src")
	check(t, os.Mkdir(src, 0o755))
	h.davit("up", "-d", "--watch")
	t.Cleanup(func() { h.davit("down", "-t", "0", "--rmi", "local") })
	pid := strings.TrimSpace(h.davit("container", "inspect", "storm-web-1", "--format", "{{.State.Pid}}"))
	app := filepath.Join("/proc", pid, "root/app")
	for seed := range kernel.Tenth(20) {
		rnd := rand.New(rand.NewPCG(uint64(seed), 11))
		for i := range operations {
			edit(rnd, src, i)
		}
		var got, want string
		equal := func() bool {
			got, want = picture.Of(app, nil, owners), picture.Of(src, counts, func(fs.FileInfo) string { return "1234:1235" })
			return got == want
		}
		for deadline := time.Now().Add(3 * patience); !equal(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("seed %d: the container's tree is not the host's:\n%s\n%s", seed, picture.Difference(got, want), h.davit("watch", "--status"))
			}
		}
		if strings.Count(want, "\n") < 10 {
			t.Errorf("seed %d leaves too little to compare:\n%s", seed, want)
		}
	}
}

// edit does one random thing below dir.
func edit(rnd *rand.Rand, dir string, i int) {
	name := func() string {
		p := dir
		for range 1 + rnd.IntN(3) {
			p = filepath.Join(p, []string{"a", "b", "c", "no", "skip", "e.tmp", "f", "ünï cödé"}[rnd.IntN(8)])
		}
		return p
	}
	p := name()
	switch rnd.IntN(12) {
	case 0, 1, 2:
		_ = os.MkdirAll(p, 0o755)
	case 3, 4, 5:
		_ = os.WriteFile(p, fmt.Append(nil, i), 0o644)
	case 6: // as editors save
		if os.WriteFile(p+"~", fmt.Append(nil, "saved ", i), 0o644) == nil && os.Rename(p+"~", p) != nil {
			_ = os.Remove(p + "~")
		}
	case 7:
		_ = os.Rename(p, name())
	case 8:
		_ = os.Remove(p)
	case 9:
		if rnd.IntN(4) == 0 {
			_ = os.RemoveAll(p)
		}
	case 10:
		if st, err := os.Lstat(p); err == nil && st.Mode()&fs.ModeSymlink == 0 {
			_ = os.Chmod(p, []os.FileMode{0o700, 0o755, 0o750}[rnd.IntN(3)])
		}
	case 11:
		_ = os.Symlink(fmt.Sprint("to-", i), p)
	}
	if rnd.IntN(200) == 0 {
		time.Sleep(time.Duration(rnd.IntN(20)) * time.Millisecond)
	}
}

// counts says what is synced, in words of its own.
func counts(rel string) bool {
	parts := strings.Split(rel, "/")
	for i, p := range parts {
		if p == "skip" || strings.HasSuffix(p, ".tmp") || strings.HasSuffix(p, "~") || i == 1 && p == "no" && parts[0] != "c" {
			return false
		}
	}
	return true
}

func owners(info fs.FileInfo) string {
	st := info.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%d:%d", st.Uid, st.Gid)
}
