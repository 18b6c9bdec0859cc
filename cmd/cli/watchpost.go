package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/reconcile/watch"
)

// A watchReport is what a watcher tells of itself.
type watchReport struct {
	PID       int         `json:"pid"`
	Ready     bool        `json:"ready"`
	Since     time.Time   `json:"since"`
	Polling   bool        `json:"polling"`
	Rules     []watchRule `json:"rules"`
	Batches   int         `json:"batches"`
	Files     int         `json:"files"`
	Last      time.Time   `json:"last,omitzero"`
	LastError string      `json:"lastError,omitempty"`
}

type watchRule struct {
	Service string `json:"service"`
	Action  string `json:"action"`
	Path    string `json:"path"`
	Target  string `json:"target,omitempty"`
}

// A watchPost is where a watcher can be asked and told to end: a socket in the
// project's run folder, which also keeps a second watcher away.
type watchPost struct {
	listener net.Listener
	mu       sync.Mutex
	report   watchReport
	held     []net.Conn // of those who wait for the end
}

func watchSocket(layout store.Layout, project string) string {
	return filepath.Join(layout.RunProject(project), "watch.sock")
}

func watchLog(layout store.Layout, project string) string {
	return filepath.Join(layout.Project(project), "watch.log")
}

// openPost makes a watcher reachable; end is called when it is told to end.
func (w *watching) openPost(ctx context.Context, rules []watch.Rule, end func()) (*watchPost, error) {
	layout := w.engine.Layout()
	if r, err := askWatch(ctx, layout, w.session.name, "status"); err == nil {
		return nil, fmt.Errorf("project %s is being watched by process %d already: %s watch --stop ends that", w.session.name, r.PID, program())
	}
	path := watchSocket(layout, w.session.name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	_ = os.Remove(path) // a dead watcher's
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("be reachable for watch --status: %w", err)
	}
	p := &watchPost{listener: l, report: watchReport{PID: os.Getpid(), Since: time.Now(), Polling: w.w.Polling()}}
	for _, r := range rules {
		p.report.Rules = append(p.report.Rules, watchRule{r.Service, r.Action, r.Path, r.Target})
	}
	go p.serve(end)
	return p, nil
}

func (p *watchPost) ready() { p.note(func(r *watchReport) { r.Ready = true }) }

// close makes the watcher unreachable, and lets go who waits for its end.
func (p *watchPost) close() {
	p.listener.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.held {
		c.Close()
	}
}

func (p *watchPost) note(change func(*watchReport)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.report)
}

func (p *watchPost) serve(end func()) {
	for {
		c, err := p.listener.Accept()
		if err != nil {
			return
		}
		go p.answer(c, end)
	}
}

// answer tells how it goes. Whoever told the watcher to end keeps the
// connection, whose end is the watcher's.
func (p *watchPost) answer(c net.Conn, end func()) {
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		c.Close()
		return
	}
	p.mu.Lock()
	body, err := json.Marshal(p.report)
	p.mu.Unlock()
	if err == nil {
		_, _ = c.Write(append(body, '\n'))
	}
	if strings.TrimSpace(line) == "stop" {
		p.mu.Lock()
		p.held = append(p.held, c)
		p.mu.Unlock()
		end()
		return
	}
	c.Close()
}

// askWatch asks a project's watcher how it goes, or tells it to stop and waits
// until its process has ended.
func askWatch(ctx context.Context, layout store.Layout, project, word string) (watchReport, error) {
	var r watchReport
	d := net.Dialer{Timeout: time.Second}
	c, err := d.DialContext(ctx, "unix", watchSocket(layout, project))
	if err != nil {
		return r, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := fmt.Fprintln(c, word); err != nil {
		return r, err
	}
	in := bufio.NewReader(c)
	line, err := in.ReadBytes('\n')
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(line, &r); err != nil {
		return r, err
	}
	if word == "stop" {
		_, _ = in.ReadByte() // until its end
	}
	return r, nil
}

// endWatch ends what watches the project, if anything does.
func (s *session) endWatch(ctx context.Context, tell bool) error {
	if s.dryRun {
		return nil
	}
	r, err := askWatch(ctx, s.engine.Layout(), s.name, "stop")
	switch {
	case err != nil && ctx.Err() != nil:
		return ctx.Err()
	case err != nil && tell:
		s.say("davit: warning: Project %q is not being watched", s.name)
	case tell:
		s.say("Watch disabled: process %d has ended", r.PID)
	}
	return nil
}

// watchStatus prints what is being watched.
func (s *session) watchStatus(ctx context.Context) error {
	r, err := askWatch(ctx, s.engine.Layout(), s.name, "status")
	if err != nil {
		fmt.Fprintf(s.out, "project %s is not being watched\n", s.name)
		return exit{code: 1}
	}
	how := ""
	if r.Polling {
		how = " by polling"
	}
	fmt.Fprintf(s.out, "project %s is being watched%s by process %d since %s: %d batches, %d files synced\n",
		s.name, how, r.PID, r.Since.Format(time.DateTime), r.Batches, r.Files)
	if r.LastError != "" {
		fmt.Fprintf(s.out, "last error: %s\n", r.LastError)
	}
	t := tabwriter.NewWriter(s.out, 0, 1, 3, ' ', 0)
	fmt.Fprintln(t, "SERVICE\tACTION\tPATH\tTARGET")
	for _, rule := range r.Rules {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", rule.Service, rule.Action, rule.Path, rule.Target)
	}
	return t.Flush()
}

// watchBehind starts a watcher of its own that outlives this command, and
// returns once it is watching.
func (s *session) watchBehind(ctx context.Context, services []string) error {
	if err := s.endWatch(ctx, false); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	layout := s.engine.Layout()
	log, err := os.OpenFile(watchLog(layout, s.name), os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("keep the watcher's words: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(self, s.watchArgs(services)...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the watcher: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	return s.awaitWatch(ctx, ended, log.Name())
}

// awaitWatch waits until the watcher answers that it watches.
func (s *session) awaitWatch(ctx context.Context, ended <-chan error, log string) error {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ended:
			said, _ := os.ReadFile(log)
			return errors.New("the watcher has ended: " + strings.TrimSpace(string(said)))
		case <-tick.C:
		}
		if r, err := askWatch(ctx, s.engine.Layout(), s.name, "status"); err == nil && r.Ready {
			s.say("Watch enabled: process %d", r.PID)
			return nil
		}
	}
}

// watchArgs are the words that make another davit watch the same project.
func (s *session) watchArgs(services []string) []string {
	args := []string{"--progress", "plain"}
	for _, f := range s.files {
		args = append(args, "--file", f)
	}
	for _, f := range s.envFiles {
		args = append(args, "--env-file", f)
	}
	for _, p := range s.profiles {
		args = append(args, "--profile", p)
	}
	if s.dir != "" {
		args = append(args, "--project-directory", s.dir)
	}
	if s.root != "" {
		args = append(args, "--root", s.root)
	}
	args = append(args, "--project-name", s.name, "watch", "--no-up", "--background")
	return append(args, services...)
}
