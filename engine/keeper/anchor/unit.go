package anchor

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/davit-run/davit/engine/store"
)

// Booted says whether systemd is the first process of this host (sd_booted(3)):
// then a project has a unit, which the keeper asks for.
func Booted() bool {
	st, err := os.Lstat("/run/systemd/system")
	return err == nil && st.IsDir()
}

// Slice is the slice that all units of projects are in.
const Slice = "davit.slice"

// longestUnit is the kernel's limit of a group's name, and systemd's of a
// unit's (systemd.unit(5)).
const longestUnit = 255

// Unit names the scope of a project: davit-PROJECT.scope where davit keeps its
// data where it does by default, and with a part of a digest elsewhere, so that
// two projects of one name never share it.
func Unit(l store.Layout, project string) string {
	sum := sha256.Sum256([]byte(l.Run + "\x00" + project))
	tail := "-" + hex.EncodeToString(sum[:4]) + ".scope"
	name := "davit-" + escape(project)
	if l.Run == "/run/davit" && len(name)+len(".scope") <= longestUnit {
		return name + ".scope"
	}
	return name[:min(len(name), longestUnit-len(tail))] + tail
}

// escape writes what no unit's name may have as systemd-escape(1) does.
func escape(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte(":_.-", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, `\x%02x`, c)
		}
	}
	return b.String()
}

// inUnit is the path of the named unit's group if this process is in it.
func inUnit(all []hierarchy, name string) string {
	for _, h := range all {
		group := h.own
		if path.Base(group) == leafName {
			group = path.Dir(group)
		}
		if h.systemd && path.Base(group) == name {
			return group
		}
	}
	return ""
}

// Inherited tells where this process is already because the anchor that started
// it was there: the path of the project's unit; "" for the project's own groups;
// false for neither.
func Inherited(l store.Layout, project string) (unit string, ok bool) {
	all := hierarchies()
	if unit := inUnit(all, Unit(l, project)); unit != "" {
		return unit, true
	}
	for _, h := range all {
		if h.systemd && h.own == own(project)+"/"+leafName {
			return "", true
		}
	}
	return "", false
}

// EnterUnit moves processes, the caller among them, into a leaf of a unit's
// group, so that the containers' groups can be made beside it.
func EnterUnit(unit string, pids ...int) error {
	g := cgroups{unit, hierarchies()}
	g.enter(everywhere, pids...)
	for _, h := range g.mounts {
		if h.systemd {
			gather(filepath.Dir(g.leaf(h)), g.leaf(h))
		}
	}
	for _, h := range hierarchies() {
		if h.systemd && h.own == unit+"/"+leafName {
			return nil
		}
	}
	return fmt.Errorf("enter group %s: %w", unit, errOutside)
}

var errOutside = errors.New("this process is still outside")

// gather moves into the leaf whoever was started in the unit's group before
// its parent was moved.
func gather(dir, leaf string) {
	for range 100 {
		pids, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if err != nil || len(bytes.TrimSpace(pids)) == 0 {
			return
		}
		for f := range strings.FieldsSeq(string(pids)) {
			if pid, err := strconv.Atoi(f); err == nil && pid > 0 {
				_ = join(leaf, pid)
			}
		}
	}
}

// giveBack removes what of a unit's groups is not systemd's, and waits until
// systemd has removed the rest, which it does once nothing is in it.
func (g cgroups) giveBack(patience time.Duration, soon func(dir string) bool) {
	its := g.leaves(func(h hierarchy) bool { return h.systemd })
	settle(patience, slices.Clone(its), func(leaf string) bool { return removeUp(leaf, 1, soon) })
	settle(patience, its, func(leaf string) bool { return !deserted(filepath.Dir(leaf)) })
	settle(patience, g.leaves(func(h hierarchy) bool { return !h.systemd }), func(leaf string) bool { return removeUp(leaf, 3, soon) })
}
