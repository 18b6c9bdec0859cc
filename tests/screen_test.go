package tests

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/creack/pty"

	"github.com/davit-run/davit/tests/kernel"
)

// A screen is what a person sees: the lines of a terminal of a certain width
// that a program writes to, those that do not fit wrapped, also when the width
// changes, as most terminals do it.
type screen struct {
	mu    sync.Mutex
	width int
	rows  []cells
	at    int // the row of the cursor
	col   int
	raw   bytes.Buffer // everything that was written
	marks int          // those of the test's own
	begun []byte       // a sequence or a rune whose end is not there yet
}

// cells is one row; one that is wrapped goes on with what did not fit above.
type cells struct {
	text    []rune
	wrapped bool
}

func newScreen(width int) *screen { return &screen{width: width, rows: []cells{{}}} }

var (
	escape = regexp.MustCompile(`^\x1b\[([0-9;?]*)([A-Za-z])`)
	partly = regexp.MustCompile(`^\x1b(\[[0-9;?]*)?$`)
)

// Write takes output in, cut anywhere: a terminal's buffers end where they end.
func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.raw.Write(b)
	rest := append(s.begun, b...)
	s.begun = nil
	for len(rest) > 0 {
		if partly.Match(rest) || !utf8.FullRune(rest) {
			s.begun = bytes.Clone(rest)
			break
		}
		if m := escape.FindSubmatch(rest); m != nil {
			s.sequence(string(m[1]), m[2][0])
			rest = rest[len(m[0]):]
			continue
		}
		r, size := utf8.DecodeRune(rest)
		rest = rest[size:]
		s.put(r)
	}
	return len(b), nil
}

func (s *screen) sequence(number string, what byte) {
	n, _ := strconv.Atoi(number)
	switch what {
	case 'A':
		s.at, s.col = max(0, s.at-max(n, 1)), 0
	case 'K':
		s.rows[s.at].text = s.rows[s.at].text[:min(s.col, len(s.rows[s.at].text))]
	case 'z': // no terminal knows it
		s.marks++
	case 'J':
		s.rows = s.rows[:s.at+1]
		s.sequence("", 'K')
	}
}

func (s *screen) put(r rune) {
	switch r {
	case '\r':
		s.col = 0
	case '\n':
		s.down(false)
	case '\b':
		s.col = max(0, s.col-1)
	default:
		if s.col == s.width {
			s.down(true)
			s.col = 0
		}
		row := &s.rows[s.at]
		for len(row.text) <= s.col {
			row.text = append(row.text, ' ')
		}
		row.text[s.col] = r
		s.col++
	}
}

func (s *screen) down(wrapped bool) {
	if s.at++; s.at == len(s.rows) {
		s.rows = append(s.rows, cells{})
	}
	s.rows[s.at].wrapped = wrapped
}

// resize wraps everything anew; the cursor stays at the end.
func (s *screen) resize(width int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.rows
	s.width, s.rows, s.at, s.col = width, []cells{{}}, 0, 0
	for i, row := range old {
		if i > 0 && !row.wrapped {
			s.down(false)
			s.col = 0
		}
		for _, r := range row.text {
			s.put(r)
		}
	}
}

// lines are what is on the screen; those that wrap have "\\" at their end.
func (s *screen) lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []string
	for i, row := range s.rows {
		line := strings.TrimRight(string(row.text), " ")
		if i+1 < len(s.rows) && s.rows[i+1].wrapped {
			line += `\`
		}
		out = append(out, line)
	}
	return out
}

func (s *screen) String() string { return strings.Join(s.lines(), "\n") }

func (s *screen) written() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.raw.String()
}

// A sitting is davit with a person at its terminal.
type sitting struct {
	*screen
	t      *testing.T
	master *os.File
	slave  string // where the other end is opened
	cmd    *exec.Cmd
	ended  chan error
}

// sit runs davit in a terminal of so many columns.
func (h *host) sit(columns int, env []string, args ...string) *sitting {
	h.t.Helper()
	master, slave, err := pty.Open()
	check(h.t, err)
	s := &sitting{screen: newScreen(columns), t: h.t, master: master, slave: slave.Name(), ended: make(chan error, 1)}
	check(h.t, pty.Setsize(master, &pty.Winsize{Rows: 24, Cols: uint16(columns)}))
	s.cmd = exec.Command(filepath.Join(h.bin, "davit"), append([]string{"-p", h.project}, args...)...)
	s.cmd.Dir = h.dir
	s.cmd.Env = append(os.Environ(), append([]string{"DAVIT_ROOT=" + h.root, "TERM=xterm", "CI=", "NO_COLOR="}, env...)...)
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = slave, slave, slave
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	check(h.t, s.cmd.Start())
	slave.Close()
	read := make(chan struct{})
	go func() {
		defer close(read)
		for buf := make([]byte, 1<<16); ; {
			n, err := master.Read(buf)
			_, _ = s.Write(buf[:n])
			if err != nil {
				return
			}
		}
	}()
	go func() {
		err := s.cmd.Wait()
		<-read
		s.ended <- err
	}()
	h.t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		master.Close()
	})
	return s
}

// turn makes the terminal narrower or wider, at a moment at which davit is not
// drawing and has nothing on its way to the screen: it would have drawn for the
// terminal that was.
func (s *sitting) turn(columns int) {
	s.t.Helper()
	kernel.Eventually(s.t, patience, "davit waits", func() (turned bool) {
		kernel.Held(s.t, s.cmd.Process.Pid, func() {
			if turned = kernel.Waits(s.cmd.Process.Pid); !turned {
				return
			}
			s.catchUp()
			s.resize(columns)
			check(s.t, pty.Setsize(s.master, &pty.Winsize{Rows: 24, Cols: uint16(columns)}))
		})
		return turned
	})
}

// catchUp returns when all that was written is on the screen.
func (s *sitting) catchUp() {
	s.t.Helper()
	marks := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.marks
	}
	before := marks()
	slave, err := os.OpenFile(s.slave, os.O_WRONLY|syscall.O_NOCTTY, 0)
	check(s.t, err)
	defer slave.Close()
	_, err = slave.WriteString("\x1b[z")
	check(s.t, err)
	kernel.Eventually(s.t, patience, "the screen shows all", func() bool { return marks() > before })
}

// asked types a key until davit asks what that is to ask: it listens to most of
// them only when all is up. A question before is given up.
func (s *sitting) asked(key, question string) {
	s.t.Helper()
	re := regexp.MustCompile(question + `$`)
	var last time.Time
	kernel.Eventually(s.t, patience, "davit asks: "+question, func() bool {
		if re.MatchString(s.String()) {
			return true
		}
		if time.Since(last) > time.Second {
			last = time.Now()
			s.types("\x1b" + key)
		}
		return false
	})
}

func (s *sitting) types(keys string) {
	s.t.Helper()
	_, err := s.master.WriteString(keys)
	check(s.t, err)
}

// sees waits until the screen, its lines whole, matches.
func (s *sitting) sees(pattern string) {
	s.t.Helper()
	re := regexp.MustCompile(pattern)
	defer func() {
		if s.t.Failed() {
			s.t.Logf("the screen:\n%s", s.screen)
		}
	}()
	kernel.Eventually(s.t, patience, "on the screen: "+pattern, func() bool {
		return re.MatchString(strings.ReplaceAll(s.String(), "\\\n", ""))
	})
}

// leaves waits until davit has ended.
func (s *sitting) leaves() error {
	s.t.Helper()
	select {
	case err := <-s.ended:
		return err
	case <-time.After(patience):
		s.t.Fatalf("davit goes on; the screen:\n%s", s.screen)
		return nil
	}
}
