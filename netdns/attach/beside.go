package attach

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// letThrough lets a bridge's packets pass what other programs keep in front of
// ours: the FORWARD chain of iptables, in nftables or in the kernel's own old
// tables, and firewalld's zones. It is idempotent.
func (h *Host) letThrough(bridge string) error {
	if err := h.table.LetThrough(bridge); err != nil {
		return err
	}
	for _, l := range oldTables {
		if err := l.letThrough(bridge); err != nil {
			return err
		}
	}
	return h.trust(bridge, "--add-interface")
}

// stopLetting takes letThrough's rules away. It is idempotent.
func (h *Host) stopLetting(bridge string) error {
	if err := h.table.StopLetting(bridge); err != nil {
		return err
	}
	for _, l := range oldTables {
		l.stopLetting(bridge)
	}
	return h.trust(bridge, "--remove-interface")
}

// An oldTable is the filter table of one family as iptables kept it before
// nftables: only its own program can change that.
type oldTable struct{ program, names string }

var oldTables = []oldTable{{"iptables-legacy", "ip_tables_names"}, {"ip6tables-legacy", "ip6_tables_names"}}

// used says whether anybody has made the table in the thread's namespace, and
// its program is at hand. Looking makes no table, as the program itself would.
func (o oldTable) used() bool {
	b, err := os.ReadFile("/proc/thread-self/net/" + o.names)
	if err != nil || !slices.Contains(strings.Fields(string(b)), "filter") {
		return false
	}
	return program(o.program) != ""
}

// program finds another firewall's program, "" where there is none. A keeper has
// no PATH.
func program(name string) string {
	dirs := os.Getenv("PATH")
	if dirs == "" {
		dirs = "/usr/sbin:/usr/bin:/sbin:/bin"
	}
	for _, dir := range filepath.SplitList(dirs) {
		path := filepath.Join(dir, name)
		if st, err := os.Stat(path); err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return path
		}
	}
	return ""
}

func (o oldTable) letThrough(bridge string) error {
	if !o.used() {
		return nil
	}
	have, err := exec.Command(program(o.program), "-w", "-S").Output()
	if err != nil {
		return fmt.Errorf("%s -S: %w", o.program, err)
	}
	rules := strings.Split(string(have), "\n")
	if !slices.Contains(rules, "-P FORWARD DROP") {
		return nil
	}
	chain := "FORWARD"
	if slices.Contains(rules, "-N DOCKER-USER") {
		chain = "DOCKER-USER"
	}
	for _, way := range []string{"-i", "-o"} {
		if slices.Contains(rules, "-A "+chain+" "+way+" "+bridge+" -j ACCEPT") {
			continue
		}
		if out, err := exec.Command(program(o.program), "-w", "-I", chain, way, bridge, "-j", "ACCEPT").CombinedOutput(); err != nil {
			return fmt.Errorf("let %s through %s with %s: %w: %s", bridge, chain, o.program, err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}

func (o oldTable) stopLetting(bridge string) {
	if !o.used() {
		return
	}
	for _, chain := range []string{"FORWARD", "DOCKER-USER"} {
		for _, way := range []string{"-i", "-o"} {
			for exec.Command(program(o.program), "-w", "-D", chain, way, bridge, "-j", "ACCEPT").Run() == nil {
			}
		}
	}
}

// notRunning is firewall-cmd's exit status where no firewalld answers, see
// firewall-cmd(1).
const notRunning = 252

// trust puts a bridge into firewalld's trusted zone, or takes it out, where
// firewalld rules. Its reload forgets the bridge; Watch puts it back.
func (h *Host) trust(bridge, change string) error {
	there, err := h.table.Beside("firewalld")
	if err != nil || !there {
		return err
	}
	command := program("firewall-cmd")
	if command == "" {
		return nil
	}
	out, err := exec.Command(command, "--zone=trusted", change+"="+bridge).CombinedOutput()
	var failed *exec.ExitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &failed) && failed.ExitCode() == notRunning:
		return nil // it is stopping, or has left its table behind
	case errors.As(err, &failed) && (strings.Contains(string(out), "ALREADY_ENABLED") || strings.Contains(string(out), "ZONE_ALREADY_SET") ||
		change == "--remove-interface"):
		return nil
	}
	return fmt.Errorf("tell firewalld about %s: %w: %s", bridge, err, strings.TrimSpace(string(out)))
}
