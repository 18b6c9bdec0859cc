package runtime

import (
	"strings"
	"testing"

	"github.com/davit-run/davit/engine"
)

func TestAContainerRunsAndItsExitCodeIsKept(t *testing.T) {
	r := newRig(t)
	code, out := r.run(r.container("echo hello from $$; id; exit 7"))
	if code != 7 || !strings.HasPrefix(out, "hello from 1\n") {
		t.Fatalf("code %d, output %q", code, out)
	}
	if !strings.Contains(out, "uid=0(root) gid=0(root) groups=0(root),10(wheel)") {
		t.Errorf("root's groups are not the image's: %s", out)
	}
}

func TestTheCommandIsFoundOrTheCodeSaysWhyNot(t *testing.T) {
	r := newRig(t)
	r.file("etc/data", "no program")
	for cmd, want := range map[string]int{"nosuchcommand": 127, "/nosuch": 127, "/etc/data": 126, "/etc": 126} {
		c := r.container("", func(c *engine.Container) { c.Spec.Entrypoint = []string{cmd} })
		_, _, err := r.try(c)
		if err == nil || ExitCode(err) != want {
			t.Errorf("%s: code %d, want %d: %v", cmd, ExitCode(err), want, err)
		}
	}
}
