package guest

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/davit-run/davit/tests/images"
	"github.com/davit-run/davit/tests/kernel"
)

// longest is how long the guest may take for everything, without hardware to
// run it on and beside whatever else this host does.
const longest = 40 * time.Minute

// wanted are the tests that the guest must have passed, in the order in which
// it runs them.
var wanted = []string{
	"TestAScopeComesAndGoesWithItsProcesses", "TestTwoScopesShareTheSlice",
	"TestSystemdHasAUnitForTheProject", "TestSystemdStopsTheProject", "TestTheUnitThatTypedUpMayEnd",
	"TestInsideTheUnitThatTypedUpEnds", "TestInsideTheLoginThatTypedUpEnds", "TestInsideLimitsHold", "TestInsideOOMIsToldApart",
	"TestBeforeTheReboot", "TestAfterTheReboot",
}

// TestGuest boots a guest twice and tells what came of the tests that ran in it.
func TestGuest(t *testing.T) {
	if os.Getenv("DAVIT_LONG") == "" {
		t.Skip("with DAVIT_LONG=1: a guest is booted")
	}
	m, err := Find()
	if err != nil {
		t.Skip(err)
	}
	dir := t.TempDir()
	payload, out, console := filepath.Join(dir, "payload.tar"), filepath.Join(dir, "out"), filepath.Join(dir, "console")
	if err := Pack(payload, files(t, dir)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), longest)
	defer cancel()
	begun := time.Now()
	err = m.Boot(ctx, payload, out, console)
	said, rerr := os.ReadFile(out)
	text := strings.ReplaceAll(string(said), "\r", "")
	if err != nil || rerr != nil {
		end, _ := os.ReadFile(console)
		t.Fatalf("%v %v\n%s\nconsole:\n%s", err, rerr, text, end)
	}
	for _, name := range wanted {
		if !strings.Contains(text, "\n--- PASS: "+name+" ") {
			t.Errorf("%s did not pass in the guest", name)
		}
	}
	if n := strings.Count(text, "\nguest: status 0\n"); n != 5 || t.Failed() {
		t.Errorf("%d of 5 programs ended well:\n%s", n, text)
	}
	t.Logf("%d tests in %s:\n%s", len(wanted), time.Since(begun).Round(time.Second), text)
}

// files are what the guest gets, by name: davit, an image, and tests of this
// module as programs.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	bin, err := kernel.Binaries()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{"run": "testdata/run"}
	for _, name := range []string{"davit", "davit-runtime"} {
		all[name] = filepath.Join(bin, name)
	}
	for name, pkg := range map[string]string{"unit": "../../engine/keeper/unit", "chaos": "../chaos", "guest": "."} {
		all[name+".test"] = filepath.Join(dir, name+".test")
		cmd := exec.Command("go", "test", "-c", "-tags", "seccomp netgo osusergo", "-ldflags", "-s -w", "-o", all[name+".test"], pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("build tests for the guest: %v\n%s", err, said)
		}
	}
	all["busybox.tar"] = filepath.Join(dir, "busybox.tar")
	archive(t, all["busybox.tar"])
	cache, err := images.Open("")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"busybox.tar", "busybox.json"} {
		all["images/"+name] = filepath.Join(cache.Dir(), name)
	}
	return all
}

func archive(t *testing.T, path string) {
	t.Helper()
	cache, err := images.Open("")
	if err != nil {
		t.Fatal(err)
	}
	ims, err := images.Find("busybox")
	if err != nil {
		t.Fatal(err)
	}
	if err := cache.Make(t.Context(), os.Stderr, ims...); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := cache.WriteArchive(f, ims...); err != nil {
		t.Fatal(err)
	}
}
