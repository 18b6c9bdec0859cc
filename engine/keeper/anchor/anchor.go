package anchor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/store"
)

// Ready is the name under which the store holds the pipe at which whoever
// started the anchor waits to be told "ready".
const Ready = "ready"

// HostMounts is the name of the host's mount namespace in the store.
const HostMounts = "mounts"

// Status is the exit status of an anchor that had to give up.
const Status = 1

// hostFD is where whoever starts an anchor passes the host's mount namespace.
const hostFD = 4

// storeFD is where a keeper finds its end of the fd store.
const storeFD = 3

type anchor struct {
	layout  store.Layout
	project string
	lock    *store.Lock // nil: somebody holds it whom this one has replaced
	exe     int         // what /proc/self/exe was
	next    int         // the program of an upgrade
	fds     fdstore

	keeper   int // pid; 0: none
	sock     int
	messages chan message
	born     time.Time
	tries    int    // keepers that died early, one after the other
	upgrade  bool   // exec the new program when the keeper has ended
	over     bool   // the keeper has nothing left to keep: leave, however it ends
	swept    bool   // somebody else removes the groups then
	recent   []Exit // recorded, oldest first
}

// maxRecent bounds the exit records kept: far more than the containers of a
// project, so that the daemons a container with the host's pids leaves behind
// do not pile up.
const maxRecent = 4096

// Main is `davit-runtime anchor DATA RUN PROJECT [FD=NAME…]`: it keeps a
// keeper running until one exits with status 0. Descriptor 3 is the readiness
// pipe at the first start; a keeper whose anchor died, and an anchor that
// makes room for a newer build, pass what is kept as FD=NAME instead.
func Main(args []string) int {
	if len(args) < 3 {
		fmt.Fprintln(os.Stderr, "anchor: DATA RUN PROJECT wanted")
		return Status
	}
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(20)
	a := &anchor{layout: store.Layout{Data: args[0], Run: args[1]}, project: args[2], fds: fdstore{}}
	if err := a.settle(args[3:]); err != nil {
		a.say("%v", err)
		return Status
	}
	return a.loop()
}

// settle makes the process what its keeper and containers inherit.
func (a *anchor) settle(kept []string) error {
	signals := make(chan os.Signal, 1)
	// Caught and dropped, not ignored: an ignored signal stays ignored in
	// every container.
	signal.Notify(signals, unix.SIGHUP, unix.SIGINT, unix.SIGTERM)
	unix.Umask(0o022)
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-500"), 0) // where allowed
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become a subreaper: %w", err)
	}
	exe, err := unix.Open("/proc/self/exe", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open own program: %w", err)
	}
	if a.exe, err = unix.FcntlInt(uintptr(exe), unix.F_DUPFD_CLOEXEC, 10); err != nil {
		return fmt.Errorf("keep own program: %w", err)
	}
	unix.Close(exe)
	if len(kept) > 0 {
		a.inherit(kept)
		return a.alone()
	}
	// rslave: what the host mounts is seen and what it unmounts goes, and
	// nothing of ours reaches it.
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil && os.Geteuid() == 0 {
		return fmt.Errorf("make the mount namespace a slave: %w", err)
	}
	mounts := HostMounts
	if to, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", hostFD)); err != nil || !strings.HasPrefix(to, "mnt:[") {
		mounts = ""
	}
	closeStrangers(mounts != "")
	a.inherit([]string{"3=" + Ready})
	if mounts != "" {
		a.inherit([]string{fmt.Sprintf("%d=%s", hostFD, mounts)})
	}
	return a.alone()
}

// patience is how long an anchor waits for the one before it to be gone.
const patience = 30 * time.Second

// alone takes the lock that tells everybody that an anchor lives. One before
// this one is about to end, or dead and not yet out of the kernel.
func (a *anchor) alone() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var err error
	a.lock, err = store.Acquire(ctx, a.layout.AnchorLock(a.project))
	if _, fresh := a.fds[Ready]; err != nil && !fresh {
		a.say("%v", err) // what is kept is worth more
		return nil
	}
	return err
}

// closeStrangers closes what whoever typed the command left open for us by
// mistake: a pipe held here would keep its reader waiting for ever.
func closeStrangers(host bool) {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd <= storeFD || host && fd == hostFD {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			unix.Close(fd)
		}
	}
}

func (a *anchor) inherit(kept []string) {
	for _, k := range kept {
		n, name, ok := strings.Cut(k, "=")
		fd, err := strconv.Atoi(n)
		if !ok || err != nil || fd < 3 {
			continue
		}
		moved, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 10)
		unix.Close(fd)
		if err == nil {
			a.fds.put(name, moved)
		}
	}
}

func (a *anchor) loop() int {
	child := make(chan os.Signal, 1)
	child <- unix.SIGCHLD // for those who ended before, under another program
	signal.Notify(child, unix.SIGCHLD)
	again := a.start()
	if !Booted() { // else the keeper asks systemd for a unit
		Enter(a.project, os.Getpid(), a.keeper)
	}
	for {
		select {
		case <-child:
		case m, open := <-a.messages:
			if !open {
				a.messages = nil
				continue
			}
			a.take(m)
			continue
		case <-again:
			again = nil
		}
		ended, retry := a.reap()
		if retry && again == nil {
			again = time.After(time.Second)
		}
		switch {
		case a.keeper != 0:
		case ended != nil:
			wait, leave := a.bury(*ended)
			if leave >= 0 {
				return leave
			}
			again = time.After(wait)
		case again == nil:
			again = a.start()
		}
	}
}

// start runs a keeper and gives it what is kept; when that is impossible just
// now it returns when to try again.
func (a *anchor) start() <-chan time.Time {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		a.say("socket pair: %v", err)
		return time.After(time.Second)
	}
	defer unix.Close(pair[1])
	pid, err := syscall.ForkExec(fmt.Sprintf("/proc/self/fd/%d", a.exe),
		[]string{os.Args[0], "keeper", a.layout.Data, a.layout.Run, a.project},
		&syscall.ProcAttr{Dir: "/", Env: []string{}, Files: []uintptr{0, 1, 2, uintptr(pair[1])}})
	if err != nil {
		unix.Close(pair[0])
		a.say("run keeper: %v", err)
		return time.After(time.Second)
	}
	a.keeper, a.sock, a.born = pid, pair[0], time.Now()
	a.messages = make(chan message)
	if err := a.fds.give(a.sock); err != nil {
		a.say("give the keeper its descriptors: %v", err)
	}
	go listen(a.sock, a.messages)
	return nil
}

// listen hands on what a keeper says until it is gone.
func listen(sock int, out chan<- message) {
	body, oob := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4*batch))
	defer close(out)
	for {
		m, err := receive(sock, body, oob)
		if err != nil {
			return
		}
		out <- m
	}
}

func (a *anchor) take(m message) {
	if m.verb == verbExe && len(m.files) == 1 {
		if fd := detach(m.files[0]); fd >= 0 {
			if a.upgrade {
				unix.Close(a.next)
			}
			a.next, a.upgrade = fd, true
		}
		return
	}
	if m.verb == verbOver {
		a.over, a.swept = true, slices.Contains(m.names, swept)
	}
	a.fds.apply(m)
}

// reap records every orphan that has ended, then takes it off the process
// table; how the keeper ended, if it did, is returned. An exit that cannot be
// recorded is left for later.
func (a *anchor) reap() (keeper *Exit, retry bool) {
	for {
		e, ok, err := Look(unix.P_ALL, 0)
		if err != nil || !ok {
			return keeper, false
		}
		if e.PID == a.keeper {
			keeper = &e
			a.keeper = 0
		} else if err := a.record(e); err != nil {
			a.say("record the exit of %d: %v", e.PID, err)
			return keeper, true
		}
		Reap(e.PID)
	}
}

func (a *anchor) record(e Exit) error {
	dir := a.layout.Exits(a.project)
	if _, err := os.Lstat(a.layout.KeeperSocket(a.project)); errors.Is(err, os.ErrNotExist) {
		return nil // the keeper has cleared up and is about to end: nobody asks any more
	}
	if err := e.Record(dir); err != nil {
		return err
	}
	if a.recent = append(a.recent, e); len(a.recent) > maxRecent {
		_ = Forget(dir, a.recent[0].PID, a.recent[0].StartTicks)
		a.recent = a.recent[1:]
	}
	return nil
}

// bury takes the dead keeper's last words and says how long to wait before the
// next one, or with which status to leave (-1: stay).
func (a *anchor) bury(e Exit) (wait time.Duration, leave int) {
	if a.messages != nil {
		for m := range a.messages {
			a.take(m)
		}
		a.messages = nil
	}
	unix.Close(a.sock)
	if a.upgrade {
		a.become()
		a.upgrade = false // the new program could not be run: the old one goes on
		unix.Close(a.next)
		return 0, -1
	}
	if e.ExitCode() == 0 || a.over {
		a.end()
		return 0, 0
	}
	lived := time.Since(a.born)
	if _, waiting := a.fds[Ready]; waiting {
		a.say("keeper ended (%s) before it was ready", describe(e))
		a.end()
		return 0, Status
	}
	wait, a.tries = backoff(e.Signal() == int(unix.SIGKILL), lived, a.tries)
	a.say("keeper ended (%s) after %s; the next one starts in %s", describe(e), lived.Round(time.Millisecond), wait)
	return wait, -1
}

// end leaves nothing behind. Whoever takes the project down waits for the lock,
// and so for all of this.
func (a *anchor) end() {
	if !a.swept {
		leaveGroups(a.layout, a.project)
	}
	clearRun(a.layout, a.project, a.lock)
}

// Leave does what an anchor does last, in the place of one that has died.
// Where another one lives, that is left to it.
func Leave(l store.Layout, project string) {
	var lock *store.Lock
	if path := l.AnchorLock(project); exists(path) {
		// A dead process may hold it for a moment more.
		ctx, cancel := context.WithTimeout(context.Background(), settling)
		defer cancel()
		var err error
		if lock, err = store.Acquire(ctx, path); err != nil {
			return
		}
	}
	leaveGroups(l, project)
	clearRun(l, project, lock)
}

// clearRun removes the anchor's lock, and the run directory when nobody else
// has anything in it.
func clearRun(l store.Layout, project string, lock *store.Lock) {
	lock.ReleaseRemove()
	run := l.RunProject(project)
	_ = os.Remove(run)
	_ = os.Remove(filepath.Dir(run))
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// backoff is how long to wait after a keeper that lived for so long, tries
// having died early before it. One that was killed from outside is back soon;
// one that crashes by itself may take half a minute.
func backoff(killed bool, lived time.Duration, tries int) (wait time.Duration, next int) {
	if lived >= 10*time.Second {
		return 0, 0
	}
	if tries == 0 {
		return 0, 1
	}
	ceiling := 30 * time.Second
	if killed {
		ceiling = 100 * time.Millisecond
	}
	wait = 10 * time.Millisecond << min(tries, 12)
	return min(wait, ceiling), tries + 1
}

func describe(e Exit) string {
	if s := e.Signal(); s != 0 {
		return unix.SignalName(syscall.Signal(s))
	}
	return fmt.Sprintf("status %d", e.Status)
}

// become makes this process the anchor of another build, with everything kept.
func (a *anchor) become() {
	args := []string{os.Args[0], "anchor", a.layout.Data, a.layout.Run, a.project}
	for name, fd := range a.fds {
		args = append(args, fmt.Sprintf("%d=%s", fd, name))
	}
	err := Become(a.next, args)
	a.say("become the new build: %v", err)
}

// Become executes the program behind a descriptor in place of this process.
// Arguments of the form FD=NAME name descriptors that stay open.
func Become(program int, args []string) error {
	for _, arg := range args {
		n, _, ok := strings.Cut(arg, "=")
		if fd, err := strconv.Atoi(n); ok && err == nil {
			_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0)
		}
	}
	err := syscall.Exec(fmt.Sprintf("/proc/self/fd/%d", program), args, []string{})
	if err == nil {
		err = errors.New("exec returned")
	}
	return err
}

func (a *anchor) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%s anchor: %s\n", time.Now().UTC().Format("2006-01-02T15:04:05.000Z"), fmt.Sprintf(format, args...))
}
