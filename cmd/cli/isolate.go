package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"

	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/project/compose"
)

// An isolation is the record of a project that is up beside other copies of
// itself: it is what makes later commands in the same directory mean this copy,
// until down.
type isolation struct {
	Name  string   `json:"name"` // of the copy
	Base  string   `json:"base"` // what the files call the project
	Dir   string   `json:"dir"`
	Ports []placed `json:"ports"`
	// Subnets are where the ranges that the files fix for networks have ended up.
	Subnets []placedSubnet `json:"subnets,omitempty"`
}

// A placed port is where a fixed host port has ended up.
type placed struct {
	Service  string `json:"service"`
	HostIP   string `json:"hostIP,omitempty"`
	Protocol string `json:"protocol"`
	Target   uint32 `json:"target"`
	Wanted   uint16 `json:"wanted"` // the port that the files ask for
	Port     uint16 `json:"port"`
}

// sameUse says whether two are one entry of the files.
func (p placed) sameUse(o placed) bool {
	p.Port, o.Port = 0, 0
	return p == o
}

// rename gives a copy its name: where --isolated or x-isolate asks for one, and
// where one is up already. A name given by -p is taken as it is.
func (g *globals) rename(n compose.Naming) string {
	layout, err := store.Locate(g.root)
	if err != nil {
		return n.Name
	}
	own := copyName(n)
	names := []string{n.Name, own} // one may have got its name from the copy's env file
	if n.Given {
		own, names = n.Name, names[:1]
	}
	for _, name := range names {
		if _, err := os.Lstat(layout.Isolated(name)); err == nil {
			g.copy = &isolation{Name: name, Base: n.Name, Dir: n.Dir}
			return name
		}
	}
	if !g.isolated && !n.Isolate {
		return n.Name
	}
	g.copy = &isolation{Name: own, Base: n.Name, Dir: n.Dir}
	return own
}

// copyName is the project's name with that of the git worktree, or of the
// directory, and some digits that no other directory has.
func copyName(n compose.Naming) string {
	dir := n.Dir
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	words := []string{n.Name}
	if w := wordOf(worktree(dir)); w != "" && w != n.Name {
		words = append(words, w)
	}
	sum := sha256.Sum256([]byte(dir))
	return strings.Join(append(words, hex.EncodeToString(sum[:3])), "-")
}

// worktree is the top of the git worktree that dir is in, or dir.
func worktree(dir string) string {
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Lstat(filepath.Join(at, ".git")); err == nil {
			return at
		}
		if at == filepath.Dir(at) {
			return dir
		}
	}
}

// wordOf is the last part of a path as part of a project's name.
func wordOf(path string) string {
	keep := func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '-', r == '_':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return -1
	}
	name := strings.Map(keep, filepath.Base(path))
	return strings.Trim(name[:min(len(name), 32)], "-_")
}

// endIsolation forgets a copy that has nothing left: its directory's commands
// mean the project itself again.
func (s *session) endIsolation() error {
	path := s.engine.Layout().Isolated(s.name)
	var rec isolation
	if err := store.Read(path, &rec); err == nil {
		_ = os.Remove(rec.envFile())
		_ = os.Remove(filepath.Join(filepath.Dir(rec.envFile()), ".gitignore"))
		_ = os.Remove(filepath.Dir(rec.envFile()))
	}
	return store.Remove(path)
}
