package tests

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/davit-run/davit/tests/kernel"
)

// shown is a project of three services, one of which waits for another.
const shown = `
services:
  web:
    image: busybox
    command: sh -c 'echo web says hello; echo an Error of web; sleep 1000'
    stop_signal: SIGKILL
    healthcheck: {test: ["CMD", "true"], interval: 1s, start_interval: 100ms, start_period: 5s}
  a-service-with-a-rather-long-name:
    image: busybox
    command: sh -c 'echo long says hello; sleep 1000'
    stop_signal: SIGKILL
  late:
    image: busybox
    command: sh -c 'echo late says hello; sleep 1000'
    stop_signal: SIGKILL
    depends_on: {web: {condition: service_healthy}}
`

// On a terminal, wide or narrow, up shows one line for each object, with its
// time, all of them finished when the output of the containers follows; keys
// then restart a service, filter, tell about themselves and detach.
func TestAttachedUpOnATerminal(t *testing.T) {
	for _, columns := range []int{80, 40} {
		t.Run(fmt.Sprint(columns), func(t *testing.T) {
			h := newHost(t, fmt.Sprint("tty", columns), shown)
			t.Cleanup(func() { h.davit("down", "-t", "0") })
			s := h.sit(columns, nil, "up")
			s.sees(`Press h for help`)
			s.sees(`late-1 .*late says hello`) // it may have waited longer than the others' progress
			long := map[int]string{80: `a-service-with-a-rather-long-name-1`, 40: `…[a-z-]+-name-1`}[columns]
			s.sees(`(?s)Attaching to.*\nweb-1 +\| web says hello\n`)
			s.sees(`(?s)Attaching to.*\n` + long + ` +\| long says hello\n`)
			progress, _, _ := strings.Cut(s.String(), "Attaching to")
			s.finished(progress, 4)

			s.types("h")
			s.sees(`f filter by service or text`)
			s.asked("r", `Restart which service\?`)
			s.types("we\t\r")
			s.sees(`Restart which service\? web`)
			s.sees(`Service "web" restarted`)
			s.sees(`(?s)web-1 exited.*web says hello`)
			s.types("fhello\r")
			s.sees(`Showing lines with "hello" only`)
			s.types("rweb\r")
			s.sees(`(?s)Showing lines.*web says hello`)
			if _, after, _ := strings.Cut(s.String(), "Showing lines"); strings.Contains(after, "Error") {
				t.Errorf("the filter lets through:\n%s", after)
			}
			s.types("flate\r")
			s.sees(`Showing service "late" only`)
			s.types("f\x1bf\r")
			s.sees(`Showing everything`)
			s.types("rnobody\r")
			s.sees(`no such service: nobody`)
			s.types("d")
			s.sees(`Detached: the containers run on`)
			check(t, s.leaves())
		})
	}
}

var rowOfProgress = regexp.MustCompile(`^ ([✔…]) (\S.*) (\w+) +\d+\.\ds$`)

// finished checks that a progress has one line for each object, that fits, and
// that it has come to its end there, or in a line of its own among the output:
// that waits for no object longer than a second.
func (s *sitting) finished(progress string, objects int) {
	t := s.t
	t.Helper()
	lines := strings.Split(strings.TrimSpace(progress), "\n")
	rows := len(lines) - 1
	if !strings.HasPrefix(lines[0], "[+] up ") || !strings.HasSuffix(lines[0], fmt.Sprint("/", rows)) || rows < 1 || rows > objects {
		t.Fatalf("not one line for each of %d objects:\n%s", objects, progress)
	}
	later := objects - rows // they were not begun with
	for _, l := range lines[1:] {
		m := rowOfProgress.FindStringSubmatch(l)
		switch {
		case m == nil || len([]rune(l)) >= s.width:
			t.Errorf("a line of the progress: %q", l)
		case m[1] == "…" && m[3] != "Waiting":
			s.sees(`\n Container \S*` + regexp.QuoteMeta(lastWord(m[2])) + ` (Created|Recreated|Started)`)
			later++
		}
	}
	kernel.Eventually(t, patience, fmt.Sprint(later, " objects have lines of their own"), func() bool {
		return len(lineOfOwn.FindAllString(strings.ReplaceAll(s.String(), "\\\n", ""), -1)) == later
	})
}

var lineOfOwn = regexp.MustCompile(`(?m)^ (Network|Container) \S+ (Created|Recreated|Started)`)

var recreation = regexp.MustCompile(`Recreate +(\d+\.\ds)|Recreated|Started`)

// recreated is what the progress says of a container that is made anew: for how
// long that has gone on, or that it is over.
func (s *sitting) recreated() string {
	s.t.Helper()
	var m []string
	kernel.Eventually(s.t, patience, "a container is made anew", func() bool {
		m = recreation.FindStringSubmatch(s.String())
		return m != nil
	})
	return m[1]
}

// lastWord is what of a row's text is behind a blank or what was cut off.
func lastWord(text string) string {
	words := strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == '…' })
	return words[len(words)-1]
}

// A terminal that becomes narrower while lines are being redrawn shows each of
// them once.
func TestResizedProgress(t *testing.T) {
	h := newHost(t, "resized", `
services:
  deaf-service-that-is-slow-to-stop:
    image: busybox
    command: sh -c 'trap "until [ -e /gate/open ]; do usleep 20000; done; exit" TERM; echo ready; while :; do sleep 1; done'
    environment: {EDITION: "${EDITION:-1}"}
    volumes: ["./gate:/gate:ro"]
    stop_grace_period: 10m
`)
	gate := filepath.Join(h.dir, "gate")
	check(t, os.Mkdir(gate, 0o755))
	t.Cleanup(func() { h.davit("down", "-t", "0") })
	h.davit("up", "-d")
	kernel.Eventually(t, patience, "it has its trap", func() bool { return strings.Contains(h.davit("logs"), "ready") })
	s := h.sit(80, []string{"EDITION=2"}, "up", "-d")
	s.recreated()
	s.turn(40)
	first := s.recreated()
	kernel.Eventually(t, patience, "it is drawn again", func() bool { return s.recreated() != first })
	check(t, os.WriteFile(filepath.Join(gate, "open"), nil, 0o644))
	check(t, s.leaves())
	_, progress, ok := strings.Cut(s.String(), "[+] up")
	if !ok || strings.Contains(progress, "[+] up") {
		t.Errorf("not one progress:\n%s", s)
	}
	s.finished("[+] up"+progress, 1)
}

// Where colours are not wanted there are none, and where nobody can watch lines
// being redrawn, or press keys, there is one line after the other.
func TestPlainTerminals(t *testing.T) {
	h := newHost(t, "plain", "services:\n  web: {image: busybox, command: echo web says hello}\n")
	t.Cleanup(func() { h.davit("down", "-t", "0") })
	for _, c := range []struct {
		env             string
		colour, redrawn bool
	}{{"A=b", true, true}, {"NO_COLOR=1", false, true}, {"TERM=dumb", false, false}, {"CI=true", true, false}} {
		s := h.sit(80, []string{c.env}, "up")
		s.sees("web says hello")
		check(t, s.leaves())
		out := s.written()
		if got := regexp.MustCompile(`\x1b\[\d+m`).MatchString(out); got != c.colour {
			t.Errorf("%s: colours: %v", c.env, got)
		}
		if got := regexp.MustCompile(`\x1b\[\d*[AJ]`).MatchString(out); got != c.redrawn {
			t.Errorf("%s: redrawn: %v", c.env, got)
		}
		if got := strings.Contains(out, "Press h"); got != (c.env != "CI=true") {
			t.Errorf("%s: keys: %v", c.env, got)
		}
		h.davit("down", "-t", "0")
	}
}
