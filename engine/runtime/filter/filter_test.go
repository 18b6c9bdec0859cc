//go:build cgo && seccomp

package filter

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/seccomp"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/bundle"
)

// The test's own executable is also the compiler and, as "load", a container's
// init.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "filter":
			os.Exit(Main())
		case "load":
			os.Exit(load())
		}
	}
	os.Exit(m.Run())
}

// load installs the profile on standard input and tells what came of it.
func load() int {
	runtime.LockOSThread()
	Adopt()
	var p configs.Seccomp
	err := json.NewDecoder(os.Stdin).Decode(&p)
	if err == nil {
		err = unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
	}
	if err == nil {
		_, err = seccomp.InitSeccomp(&p)
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	_, _, mount := unix.RawSyscall(unix.SYS_UNSHARE, unix.CLONE_NEWNS, 0, 0)
	_, _, parent := unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
	fmt.Printf("known %d, unshare %d, getppid %d\n", hits(), mount, parent)
	return 0
}

func profile(t *testing.T) *configs.Seccomp {
	t.Helper()
	p, err := bundle.Seccomp([]string{"CAP_CHOWN", "CAP_KILL"}, true)
	if err != nil {
		t.Fatal(err)
	}
	c := *p
	return &c
}

// loaded runs load with a collection.
func loaded(t *testing.T, p *configs.Seccomp, collection *os.File) string {
	t.Helper()
	body, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "load")
	cmd.Stdin = bytes.NewReader(body)
	if collection != nil {
		cmd.ExtraFiles = []*os.File{collection}
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// collect compiles profiles into a collection.
func collect(t *testing.T, profiles ...*configs.Seccomp) *Sharer {
	t.Helper()
	s := NewSharer(t.TempDir())
	for _, p := range profiles {
		body, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.compile(sha256.Sum256(body), body); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a collection counts only when it is the superuser's")
	}
}

func refusing(p *configs.Seccomp, call string, errno uint) *configs.Seccomp {
	c := *p
	c.Syscalls = nil
	for _, s := range p.Syscalls {
		if s.Name != call {
			c.Syscalls = append(c.Syscalls, s)
		}
	}
	c.Syscalls = append(c.Syscalls, &configs.Syscall{Name: call, Action: configs.Errno, ErrnoRet: &errno})
	return &c
}

func TestAKnownProfileIsNotCompiledAgainAndHolds(t *testing.T) {
	needRoot(t)
	p := profile(t)
	if got := loaded(t, p, nil); got != "known 0, unshare 1, getppid 0" {
		t.Fatalf("without a collection: %s", got)
	}
	other := refusing(p, "getppid", 42)
	s := collect(t, p, other)
	files := s.Files()
	if len(files) != 1 {
		t.Fatal("no collection")
	}
	if got := loaded(t, p, files[0]); got != "known 1, unshare 1, getppid 0" {
		t.Errorf("with a collection: %s", got)
	}
	if got := loaded(t, other, files[0]); got != "known 1, unshare 1, getppid 42" {
		t.Errorf("the second of a collection: %s", got)
	}
}

func TestAnotherProfileIsCompiledForReal(t *testing.T) {
	needRoot(t)
	p := profile(t)
	files := collect(t, p).Files()
	if got := loaded(t, refusing(p, "getppid", 42), files[0]); got != "known 0, unshare 1, getppid 42" {
		t.Errorf("a rule more: %s", got)
	}
	native := *p
	native.Architectures = p.Architectures[:1]
	if got := loaded(t, &native, files[0]); got != "known 0, unshare 1, getppid 0" {
		t.Errorf("an architecture less: %s", got)
	}
}

func TestDamageInTheCollectionIsNotBelieved(t *testing.T) {
	needRoot(t)
	p := profile(t)
	s := collect(t, p)
	whole, err := os.ReadFile(s.path)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"cut":   whole[:len(whole)-9],
		"head":  append([]byte(magic), bytes.Repeat([]byte{0xff}, 200)...),
		"magic": append([]byte("x"), whole[1:]...),
		"empty": nil,
	} {
		path := filepath.Join(t.TempDir(), "filters")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := loaded(t, p, f); got != "known 0, unshare 1, getppid 0" {
			t.Errorf("%s: %s", name, got)
		}
		f.Close()
	}
}

func TestAProfileIsCompiledOnce(t *testing.T) {
	p := profile(t)
	s := collect(t, p, p, p)
	one := collect(t, p)
	a, err := os.Stat(s.path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.Stat(one.path)
	if err != nil || a.Size() != b.Size() {
		t.Errorf("%d bytes, %v: one profile has %d", a.Size(), err, b.Size())
	}
}
