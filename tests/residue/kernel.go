package residue

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/nftables"
)

// links counts the network interfaces of the calling thread's namespace.
func links(_ Place, s Snapshot) error {
	all, err := net.Interfaces()
	if err != nil {
		return fmt.Errorf("count links: %w", err)
	}
	for _, l := range all {
		s[Links] = append(s[Links], l.Name)
	}
	return nil
}

// firewall counts tables, chains, rules, sets and their elements. Rules have
// no name but their place.
func firewall(_ Place, s Snapshot) error {
	c, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return fmt.Errorf("count nft objects: %w", err)
	}
	defer func() { _ = c.CloseLasting() }()
	if err := chains(c, s); err != nil {
		return fmt.Errorf("count nft chains: %w", err)
	}
	tables, err := c.ListTables()
	if err != nil {
		return fmt.Errorf("count nft tables: %w", err)
	}
	for _, t := range tables {
		name := fmt.Sprintf("table %d %s", t.Family, t.Name)
		s[Firewall] = append(s[Firewall], name)
		sets, err := c.GetSets(t)
		if err != nil {
			return fmt.Errorf("count nft sets of %s: %w", name, err)
		}
		for _, set := range sets {
			elements, err := c.GetSetElements(set)
			if err != nil {
				return fmt.Errorf("count nft elements of %s: %w", set.Name, err)
			}
			s[Firewall] = append(s[Firewall], fmt.Sprintf("%s set %s", name, set.Name))
			for _, e := range elements {
				s[Firewall] = append(s[Firewall], fmt.Sprintf("%s set %s element %x", name, set.Name, e.Key))
			}
		}
	}
	return nil
}

func chains(c *nftables.Conn, s Snapshot) error {
	all, err := c.ListChains()
	if err != nil {
		return err
	}
	for _, ch := range all {
		rules, err := c.GetRules(ch.Table, ch)
		if err != nil {
			return err
		}
		name := fmt.Sprintf("table %d %s chain %s", ch.Table.Family, ch.Table.Name, ch.Name)
		s[Firewall] = append(s[Firewall], name)
		for i := range rules {
			s[Firewall] = append(s[Firewall], fmt.Sprintf("%s rule %d", name, i))
		}
	}
	return nil
}

// cgroups counts the groups below davit's own in every hierarchy.
func cgroups(p Place, s Snapshot) error {
	tops, err := filepath.Glob("/sys/fs/cgroup/*/davit")
	if err != nil {
		return err
	}
	slicesOf, err := filepath.Glob("/sys/fs/cgroup/*/davit.slice")
	if err != nil {
		return err
	}
	for _, top := range append(append(tops, slicesOf...), "/sys/fs/cgroup/davit", "/sys/fs/cgroup/davit.slice") {
		err := filepath.WalkDir(top, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // removed while we looked
			}
			if err == nil && d.IsDir() && path != top && p.owns(strings.TrimPrefix(path, top+"/")) {
				s[Cgroups] = append(s[Cgroups], path)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("count cgroups: %w", err)
		}
	}
	return nil
}

// owns says whether a cgroup, by its path below davit's, is one to count.
func (p Place) owns(group string) bool {
	if len(p.Projects) == 0 {
		return true
	}
	first, _, _ := strings.Cut(group, "/")
	return slices.ContainsFunc(p.Projects, func(project string) bool {
		return first == project || strings.HasPrefix(first, "davit-"+project+"-") || first == "davit-"+project+".scope"
	})
}

// loops counts the loop devices whose file lies below the root.
func loops(p Place, s Snapshot) error {
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return err
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err == nil && strings.HasPrefix(string(b), p.Root+"/") {
			s[Loops] = append(s[Loops], f)
		}
	}
	return nil
}

// ports counts the listening sockets of the calling thread's namespace, and
// the unix sockets bound below the root.
func ports(p Place, s Snapshot) error {
	for _, proto := range []string{"tcp", "tcp6", "udp", "udp6"} {
		err := table(proto, func(f []string) {
			const listening, unconnected = "0A", "07"
			if len(f) > 3 && (f[3] == listening || f[3] == unconnected && strings.HasPrefix(proto, "udp")) {
				s[Ports] = append(s[Ports], proto+" "+f[1])
			}
		})
		if err != nil {
			return fmt.Errorf("count ports: %w", err)
		}
	}
	return table("unix", func(f []string) {
		if len(f) > 7 && strings.HasPrefix(f[7], p.Root+"/") {
			s[Sockets] = append(s[Sockets], "socket "+f[7])
		}
	})
}

// table calls row for every line of a table of /proc/net.
func table(name string, row func([]string)) error {
	f, err := os.Open("/proc/thread-self/net/" + name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // IPv6 may be missing
	}
	if err != nil {
		return err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		row(strings.Fields(lines.Text()))
	}
	return nil
}

// volatile are sysctls that count or measure.
var volatile = []string{"nf_conntrack_count", "dentry-state", "/neigh/", "/route/flush"}

// sysctls takes the value of every setting of the network namespace but those
// of interfaces, which come and go with them.
func sysctls(_ Place, s Snapshot) error {
	return filepath.WalkDir("/proc/sys/net", func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("count sysctls: %w", err)
		}
		if d.IsDir() {
			if filepath.Base(filepath.Dir(path)) == "conf" && !slices.Contains([]string{"all", "default", "lo"}, d.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		for _, v := range volatile {
			if strings.Contains(path, v) {
				return nil
			}
		}
		if b, err := os.ReadFile(path); err == nil {
			s[Sysctls] = append(s[Sysctls], strings.TrimPrefix(path, "/proc/sys/")+" = "+strings.TrimSpace(string(b)))
		}
		return nil
	})
}
