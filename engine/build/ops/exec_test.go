package ops

import "testing"

func TestInterpreters(t *testing.T) {
	for name, c := range map[string]struct {
		entry string
		want  bool
	}{
		"opened when it was registered": {"enabled\ninterpreter /usr/bin/qemu-aarch64-static\nflags: OCF\noffset 0\n", true},
		"looked for in the container":   {"enabled\ninterpreter /opt/F/qemu-aarch64\nflags: OC\noffset 0\n", false},
		"switched off":                  {"disabled\ninterpreter /usr/bin/qemu-aarch64-static\nflags: F\n", false},
		"nothing":                       {"", false},
	} {
		if got := interprets(c.entry); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
