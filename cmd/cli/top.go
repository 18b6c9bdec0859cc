package cli

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

func newTop(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "top [SERVICES...]",
		Short: "Display the running processes",
		RunE: func(c *cobra.Command, args []string) error {
			return runTop(c.Context(), g, args)
		},
	}
}

// runTop lists the processes of the project's containers, in the columns of
// ps -ef.
func runTop(ctx context.Context, g *globals, services []string) error {
	s, err := g.glance(ctx, services)
	if err != nil {
		return err
	}
	defer s.close()
	if err := s.observeContainers(ctx); err != nil {
		return err
	}
	all, err := processes()
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(g.out, 4, 1, 2, ' ', 0)
	fmt.Fprintln(w, "SERVICE\t#\tUID\tPID\tPPID\tC\tSTIME\tTTY\tTIME\tCMD")
	for _, a := range s.containers(services, false) {
		if !a.Alive() || a.State.PID == 0 {
			continue
		}
		for _, p := range below(all, a) {
			fmt.Fprintf(w, "%s\t%d\t%s\n", a.Service(), a.Number(), p)
		}
	}
	return w.Flush()
}

// A process is one line of ps -ef.
type process struct {
	pid, ppid int
	cgroup    string
	uid       string
	tty       int
	ticks     uint64 // of processor time
	started   uint64 // ticks after boot
	command   string
}

// ticksPerSecond is the unit of times in /proc/PID/stat on Linux (USER_HZ,
// proc(5)): 100 on every architecture that Go runs on.
const ticksPerSecond = 100

// String is the process in ps's columns.
func (p process) String() string {
	terminal := "?"
	if p.tty != 0 {
		terminal = "pts/" + strconv.Itoa(p.tty&0xff)
	}
	used := time.Duration(p.ticks/ticksPerSecond) * time.Second
	clock := fmt.Sprintf("%02d:%02d:%02d", int(used.Hours()), int(used.Minutes())%60, int(used.Seconds())%60)
	return fmt.Sprintf("%s\t%d\t%d\t0\t%s\t%s\t%s\t%s", p.uid, p.pid, p.ppid, p.since(), terminal, clock, p.command)
}

func (p process) since() string {
	up, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return "?"
	}
	word, _, _ := strings.Cut(string(up), " ")
	seconds, err := strconv.ParseFloat(word, 64)
	if err != nil {
		return "?"
	}
	age := time.Duration((seconds - float64(p.started)/ticksPerSecond) * float64(time.Second))
	begun := time.Now().Add(-age)
	if age > 24*time.Hour {
		return begun.Format("Jan02")
	}
	return begun.Format("15:04")
}

// processes reads all of the host's, by pid.
func processes() ([]process, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	names := map[string]string{}
	var out []process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if p, ok := readProcess(pid, names); ok {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b process) int { return a.pid - b.pid })
	return out, nil
}

// readProcess reads one; ok is false when it is gone.
func readProcess(pid int, names map[string]string) (p process, ok bool) {
	dir := "/proc/" + strconv.Itoa(pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return p, false
	}
	i := strings.LastIndexByte(string(stat), ')')
	fields := strings.Fields(string(stat[i+1:]))
	if i < 0 || len(fields) < 20 {
		return p, false
	}
	number := func(n int) uint64 { v, _ := strconv.ParseUint(fields[n], 10, 64); return v }
	p = process{pid: pid, ppid: int(number(1)), tty: int(number(4)), ticks: number(11) + number(12), started: number(19)}
	p.cgroup, p.uid, p.command = cgroupOf(pid), owner(dir, names), commandLine(dir)
	return p, true
}

// cgroupOf is where a process is in the cgroup tree: the line of version 2
// where it says more than the root, else the one of a version 1 controller.
func cgroupOf(pid int) string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return ""
	}
	best := ""
	for line := range strings.Lines(string(b)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) == 3 && len(parts[2]) > len(best) {
			best = parts[2]
		}
	}
	if best == "/" {
		return ""
	}
	return best
}

func owner(dir string, names map[string]string) string {
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return "?"
	}
	_, rest, _ := strings.Cut(string(status), "\nUid:")
	fields := strings.Fields(rest)
	if len(fields) == 0 {
		return "?"
	}
	uid := fields[0]
	if _, ok := names[uid]; !ok {
		names[uid] = uid
		if u, err := user.LookupId(uid); err == nil {
			names[uid] = u.Username
		}
	}
	return names[uid]
}

func commandLine(dir string) string {
	b, err := os.ReadFile(dir + "/cmdline")
	if err != nil || len(b) == 0 {
		name, _ := os.ReadFile(dir + "/comm")
		return "[" + strings.TrimSpace(string(name)) + "]"
	}
	return strings.TrimSpace(strings.ReplaceAll(string(b), "\x00", " "))
}
