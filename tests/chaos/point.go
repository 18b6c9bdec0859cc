package chaos

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
)

// A Victim is who is killed.
type Victim string

// The victims. Anyone is whichever process that the verb starts comes first:
// the command, the anchor, the keeper, a container's init.
const (
	Command Victim = "command"
	Keeper  Victim = "keeper"
	Anchor  Victim = "anchor"
	Anyone  Victim = "anyone"
)

// A Verb is a command that something is killed under.
type Verb struct {
	Name string
	Base string // what is there before: nothing, up, stopped, or bare: not even the image
	Args []string
}

// Verbs are the commands that survive is about.
var Verbs = []Verb{
	{"up", "nothing", []string{"up", "-d"}},
	{"down", "up", []string{"down", "-v"}},
	{"stop", "up", []string{"stop"}},
	{"start", "stopped", []string{"start"}},
	{"run", "up", []string{"run", "--rm", "-T", "worker", "true"}},
	{"exec", "up", []string{"exec", "-T", "web", "true"}},
	{"load", "bare", []string{"load", "-i", "busybox.tar"}},
	{"recreate", "up", []string{"up", "-d", "--force-recreate"}},
}

// A Point is one place to kill at: the Nth call of Syscall in a thread of the
// victim. The signal is delivered before the call is made.
type Point struct {
	Verb    Verb
	Victim  Victim
	Syscall string
	N       int
}

// String is how a failure names the point, so that it can be tried again.
func (p Point) String() string {
	return fmt.Sprintf("%s/%s/%s/%d", p.Verb.Name, p.Victim, p.Syscall, p.N)
}

// idle are calls that change nothing anybody else could see, now or later.
var idle = []string{
	"futex", "nanosleep", "clock_nanosleep", "sched_yield", "rt_sigprocmask", "rt_sigaction", "sigaltstack", "madvise",
	"gettid", "getpid", "getppid", "mmap", "munmap", "mprotect", "brk", "epoll_pwait", "rt_sigreturn", "tgkill", "getrandom",
	"fstat", "newfstatat", "statx", "read", "pread64", "lseek", "getdents64", "readlinkat", "uname", "prlimit64", "arch_prctl",
	"sched_getaffinity", "restart_syscall", "exit", "exit_group", "getuid", "geteuid", "getgid", "getegid", "set_robust_list",
	"rseq", "set_tid_address", "clock_gettime", "getsockname", "getpeername", "getsockopt", "setsockopt", "epoll_create1",
	"epoll_ctl", "eventfd2", "access", "faccessat", "faccessat2", "poll", "ppoll", "rt_sigtimedwait", "times", "getcwd", "pselect6",
}

// Points are n places to kill at, spread evenly over everything that a trace of
// the verb shows the victim's threads to have called; the same seed gives the
// same ones of the same trace.
func Points(trace io.Reader, v Verb, who Victim, n int, seed uint64) ([]Point, error) {
	most := map[string]int{} // by call: the most that one thread made
	counts := map[string]int{}
	lines := bufio.NewScanner(trace)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		pid, rest, ok := strings.Cut(strings.TrimSpace(lines.Text()), " ")
		call, _, isCall := strings.Cut(strings.TrimSpace(rest), "(")
		if !ok || !isCall || strings.ContainsAny(call, " <+-") || slices.Contains(idle, call) {
			continue
		}
		counts[pid+call]++
		most[call] = max(most[call], counts[pid+call])
	}
	var all []Point
	for call, m := range most {
		for i := range m {
			all = append(all, Point{v, who, call, i + 1})
		}
	}
	slices.SortFunc(all, func(a, b Point) int { return strings.Compare(a.key(), b.key()) })
	r := rand.New(rand.NewPCG(seed, uint64(len(v.Name))))
	if len(all) <= n {
		return all, lines.Err()
	}
	picked := make([]Point, 0, n)
	for i := range n { // one of each stretch of equal length
		from, to := i*len(all)/n, (i+1)*len(all)/n
		picked = append(picked, all[from+r.IntN(to-from)])
	}
	return picked, lines.Err()
}

func (p Point) key() string { return fmt.Sprintf("%s %06d", p.Syscall, p.N) }
