package residue

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// processes counts the processes that work below the root, the mounts of every
// mount namespace that show it, and the network namespaces those hold.
func processes(p Place, s Snapshot) error {
	pids, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return err
	}
	host, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return err
	}
	here, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		return err
	}
	spare := ancestors()
	tables := map[string]bool{} // mount namespaces already read
	for _, dir := range pids {
		mounts, err := mountsOf(dir, p.Root, tables, s)
		if err != nil {
			return err
		}
		if spare[filepath.Base(dir)] || unborn(dir) {
			continue
		}
		nets, holds := holds(dir, p.Root)
		if !holds && !mounts {
			continue
		}
		s[Processes] = append(s[Processes], describe(dir))
		for _, n := range nets {
			if n != host && n != here {
				s[Namespaces] = append(s[Namespaces], n)
			}
		}
	}
	return nil
}

// ancestors returns this process and those above it: they name the root in
// their arguments or stand in it without being davit's.
func ancestors() map[string]bool {
	all := map[string]bool{}
	for pid := os.Getpid(); pid > 1; {
		all[strconv.Itoa(pid)] = true
		var err error
		if pid, err = parent(fmt.Sprintf("/proc/%d", pid)); err != nil {
			return all
		}
	}
	return all
}

// parent is the number of the process that a process is a child of
// (proc_pid_stat(5), field 4).
func parent(dir string) (int, error) {
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))[1])
}

// unborn tells a child of this process that was forked and has not executed its
// program yet: until then it wears our arguments and holds what we had open.
func unborn(dir string) bool {
	if by, err := parent(dir); err != nil || by != os.Getpid() {
		return false
	}
	ours, err := os.ReadFile("/proc/self/cmdline")
	if err != nil {
		return false
	}
	args, err := os.ReadFile(dir + "/cmdline")
	return err == nil && bytes.Equal(args, ours)
}

// holds says whether a process works below root: by its arguments, what it
// runs, where it stands or what it has open; and in which network namespaces
// it is or which it holds open.
func holds(dir, root string) (nets []string, ok bool) {
	below := func(path string) bool { return path == root || strings.HasPrefix(path, root+"/") }
	if args, err := os.ReadFile(dir + "/cmdline"); err == nil {
		for a := range strings.SplitSeq(string(args), "\x00") {
			ok = ok || below(a)
		}
	}
	for _, l := range []string{"/exe", "/cwd", "/root"} {
		if path, err := os.Readlink(dir + l); err == nil {
			ok = ok || below(path)
		}
	}
	if n, err := os.Readlink(dir + "/ns/net"); err == nil {
		nets = append(nets, n)
	}
	fds, _ := os.ReadDir(dir + "/fd")
	for _, fd := range fds {
		path, err := os.Readlink(filepath.Join(dir, "fd", fd.Name()))
		if err != nil {
			continue
		}
		ok = ok || below(path)
		if strings.HasPrefix(path, "net:[") {
			nets = append(nets, path)
		}
	}
	return nets, ok
}

// mountsOf adds the mounts that show root in a process's mount namespace,
// reading each namespace once, and says whether the process's own root is one
// of them: then it runs in a container.
func mountsOf(dir, root string, seen map[string]bool, s Snapshot) (bool, error) {
	ns, err := os.Readlink(dir + "/ns/mnt")
	if err != nil {
		return false, nil // gone, or a kernel thread
	}
	table, err := os.ReadFile(dir + "/mountinfo")
	if err != nil {
		if gone(err) {
			return false, nil
		}
		return false, fmt.Errorf("count mounts: %w", err)
	}
	inside := false
	for line := range strings.Lines(string(table)) {
		if !strings.Contains(line, root+"/") {
			continue
		}
		inside = inside || strings.Fields(line)[4] == "/"
		if !seen[ns] {
			f := strings.Fields(line)
			s[Mounts] = append(s[Mounts], ns+" "+f[4]+" "+strings.Join(f[6:], " "))
		}
	}
	seen[ns] = true
	return inside, nil
}

func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) || errors.Is(err, syscall.EINVAL) ||
		errors.Is(err, syscall.EACCES)
}

func describe(dir string) string {
	args, _ := os.ReadFile(dir + "/cmdline")
	return filepath.Base(dir) + " " + strings.TrimSpace(strings.ReplaceAll(string(args), "\x00", " "))
}

// PIDs returns the processes that work below the root: anchor, keeper,
// containers, and whoever else stands there, but not the caller.
func (p Place) PIDs() ([]int, error) {
	s := Snapshot{}
	if err := processes(p, s); err != nil {
		return nil, err
	}
	var pids []int
	for _, line := range s[Processes] {
		number, _, _ := strings.Cut(line, " ")
		pid, err := strconv.Atoi(number)
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	return pids, nil
}
