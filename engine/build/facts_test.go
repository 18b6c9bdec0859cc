package build_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/build"
)

func (h *corpus) judge(t *testing.T, c *dockerCase, res *build.Result, said *reading, err error) {
	t.Helper()
	failing := false
	var root string
	for _, line := range strings.Split(strings.TrimSpace(c.want), "\n") {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch word {
		case "error":
			failing = true
			if err == nil || !strings.Contains(err.Error(), rest) {
				t.Errorf("error %q is not told: %v", rest, err)
			}
			continue
		case "log", "nolog":
			if strings.Contains(said.logs.String(), rest) != (word == "log") {
				t.Errorf("%s: output is %q", line, said.logs.String())
			}
			continue
		case "warn":
			if !slices.ContainsFunc(said.warns, func(w string) bool { return strings.Contains(w, rest) }) {
				t.Errorf("%s: warned of %q", line, said.warns)
			}
			continue
		}
		if err != nil {
			t.Fatalf("build: %v\n%s", err, said.logs.String())
		}
		if word == "config" {
			key, want, _ := strings.Cut(rest, " ")
			configured(t, res.Config, key, want)
			continue
		}
		if root == "" {
			root = h.merged(t, res.Layers)
		}
		if why := fact(root, word, strings.Fields(rest)); why != "" {
			t.Errorf("%s: %s", line, why)
		}
	}
	if err != nil && !failing {
		t.Errorf("build: %v\n%s", err, said.logs.String())
	}
}

func configured(t *testing.T, config []byte, key, want string) {
	t.Helper()
	var v any
	if err := json.Unmarshal(config, &v); err != nil {
		t.Fatalf("configuration %q: %v", config, err)
	}
	for _, k := range strings.Split(key, ".") {
		m, _ := v.(map[string]any)
		v = m[k]
	}
	got, _ := json.Marshal(v)
	var w any
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatalf("config %s %s: %v", key, want, err)
	}
	wanted, _ := json.Marshal(w)
	if !bytes.Equal(got, wanted) {
		t.Errorf("config %s is %s, not %s", key, got, wanted)
	}
}

// fact says what is wrong with one fact about the tree at root.
func fact(root, word string, f []string) string {
	at := func(i int) string { return filepath.Join(root, filepath.Clean("/"+f[i])) }
	st, err := os.Lstat(at(0))
	if word == "absent" {
		if err == nil {
			return "it is there"
		}
		return ""
	}
	if err != nil {
		return err.Error()
	}
	sys := st.Sys().(*syscall.Stat_t)
	mode := fmt.Sprintf("%o", sys.Mode&0o7777)
	owner := fmt.Sprintf("%d:%d", sys.Uid, sys.Gid)
	switch word {
	case "file", "dir":
		if want := map[string]fs.FileMode{"file": 0, "dir": fs.ModeDir}[word]; st.Mode().Type() != want {
			return "it is of type " + st.Mode().Type().String()
		}
		if mode != f[1] || owner != f[2] {
			return "it is " + mode + " " + owner
		}
		if word == "file" && len(f) > 3 {
			b, err := os.ReadFile(at(0))
			if got := strings.Join(strings.Fields(string(b)), " "); err != nil || got != strings.Join(f[3:], " ") {
				return fmt.Sprintf("it holds %q %v", got, err)
			}
		}
	case "link":
		if to, err := os.Readlink(at(0)); err != nil || to != f[1] {
			return fmt.Sprintf("it leads to %q %v", to, err)
		}
	case "fifo":
		if st.Mode().Type() != fs.ModeNamedPipe {
			return "it is of type " + st.Mode().Type().String()
		}
	case "only":
		var names []string
		list, err := os.ReadDir(at(0))
		for _, e := range list {
			names = append(names, e.Name())
		}
		slices.Sort(f[1:])
		if err != nil || !slices.Equal(names, f[1:]) {
			return fmt.Sprintf("it holds %q %v", names, err)
		}
	case "same", "other":
		other, err := os.Lstat(at(1))
		if err != nil || os.SameFile(st, other) != (word == "same") {
			return fmt.Sprintf("inodes %v", err)
		}
	case "xattr":
		buf := make([]byte, 256)
		n, err := unix.Lgetxattr(at(0), f[1], buf)
		if err != nil || string(buf[:n]) != f[2] {
			return fmt.Sprintf("it is %q %v", buf[:max(n, 0)], err)
		}
	default:
		return "unknown word " + word
	}
	return ""
}
