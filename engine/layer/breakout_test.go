package layer

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// tell says in a word what a path below root is, for comparison.
func tell(root, path string) string {
	full := filepath.Join(root, path)
	var st unix.Stat_t
	if err := unix.Lstat(full, &st); err != nil {
		return "nothing"
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		if v := make([]byte, 1); xattrIs(full, opaqueXattr(), v) {
			return "opaque"
		}
		return "dir"
	case unix.S_IFLNK:
		to, _ := os.Readlink(full)
		return "-> " + to
	case unix.S_IFCHR:
		if st.Rdev == 0 {
			return "whiteout"
		}
		return fmt.Sprintf("char %d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	case unix.S_IFREG:
		b, _ := os.ReadFile(full)
		return "file " + string(b)
	}
	return fmt.Sprintf("mode %o", st.Mode)
}

func xattrIs(path, name string, v []byte) bool {
	n, err := unix.Lgetxattr(path, name, v)
	return err == nil && n == 1 && v[0] == 'y'
}

type breakout struct {
	name string
	ents []ent
	// want is what stands at paths afterwards; same holds pairs that must be
	// one file.
	want map[string]string
	same [2]string
	err  string // or the error's words
}

var passwd = []ent{dir("etc"), file("/etc/passwd", "inside")}

func after(base []ent, more ...ent) []ent { return append(append([]ent{}, base...), more...) }

// breakouts are own versions of the cases that containerd (TestBreakouts),
// Docker's go-archive (TestUntarInvalid…) and umoci learned the hard way.
var breakouts = []breakout{
	{name: "absolute link to a directory", ents: []ent{dir("etc"), sym("localetc", "/etc"), file("/localetc/f", "in")},
		want: map[string]string{"etc/f": "file in", "localetc": "-> /etc"}},
	{name: "absolute link with dots", ents: []ent{dir("etc"), dir("dummy"), sym("localetc", "/dummy/../etc"), file("localetc/f", "in")},
		want: map[string]string{"etc/f": "file in"}},
	{name: "link by link, absolute", ents: []ent{dir("etc"), dir("dummy"), sym("dummy/etc", "/etc"), sym("localetc", "/dummy/etc"), file("localetc/f", "in")},
		want: map[string]string{"etc/f": "file in"}},
	{name: "link by link, relative", ents: []ent{dir("etc"), dir("dummy"), sym("dummy/etc", "/etc"), sym("localetc", "./dummy/etc"), file("localetc/f", "in")},
		want: map[string]string{"etc/f": "file in"}},
	{name: "file emptied through a link", ents: []ent{dir("etc"), file("etc/f", "full"), sym("localetc", "/etc"), file("localetc/f", "")},
		want: map[string]string{"etc/f": "file "}},
	{name: "link far above the root", ents: []ent{dir("etc"), sym("up", "../../../../../../../../etc"), file("up/f", "in")},
		want: map[string]string{"etc/f": "file in"}},
	{name: "link to the root's parent", ents: []ent{sym("up", ".."), file("up/f", "in")},
		want: map[string]string{"f": "file in"}},
	{name: "link chain that climbs", ents: []ent{dir("a"), sym("a/x", ".."), sym("a/y", "x/.."), sym("a/z", "y/.."), file("a/z/f", "in")},
		want: map[string]string{"f": "file in"}},
	{name: "link to itself", ents: []ent{sym("loop", "loop"), file("loop/f", "x")}, err: "symbolic links"},
	{name: "links in a circle", ents: []ent{sym("a", "b"), sym("b", "a"), file("a/f", "x")}, err: "symbolic links"},
	{name: "magic link of proc", ents: []ent{sym("cwd", "/proc/self/cwd"), file("cwd/f", "x")},
		want: map[string]string{"proc/self/cwd/f": "file x"}},
	{name: "dangling absolute link as a parent", ents: []ent{sym("var", "/data/var"), file("var/f", "in")},
		want: map[string]string{"data/var/f": "file in", "var": "-> /data/var"}},
	{name: "dangling relative link as a parent", ents: []ent{dir("a"), sym("a/var", "../../../../data"), file("a/var/f", "in")},
		want: map[string]string{"data/f": "file in"}},
	{name: "hard link by a relative link", ents: after(passwd, dir("b"), sym("b/d1", "../../etc"), hard("b/mine", "/b/d1/passwd")),
		same: [2]string{"b/mine", "etc/passwd"}},
	{name: "hard link down and out", ents: after(passwd, dir("b"), dir("d"), sym("b/d1", "../d/../../etc"), hard("b/mine", "/b/d1/passwd")),
		same: [2]string{"b/mine", "etc/passwd"}},
	{name: "hard link by an absolute link", ents: after(passwd, sym("localetc", "/etc"), hard("mine", "/localetc/passwd")),
		same: [2]string{"mine", "etc/passwd"}},
	{name: "hard link by a long climb", ents: after(passwd, sym("localetc", "../../../../../../../etc"), hard("mine", "/localetc/passwd")),
		same: [2]string{"mine", "etc/passwd"}},
	{name: "hard link, absolute", ents: after(passwd, hard("mine", "/etc/passwd")), same: [2]string{"mine", "etc/passwd"}},
	{name: "hard link with dots", ents: after(passwd, hard("mine", "../../../../../etc/passwd")), err: "leaves its directory"},
	{name: "hard link to the outside", ents: []ent{hard("mine", "/canary")}, err: "not in this layer"},
	{name: "hard link to a directory", ents: []ent{dir("etc"), hard("mine", "etc")}, err: "hard link"},
	{name: "hard link to the root", ents: []ent{hard("mine", "/")}, err: "hard link to a directory"},
	{name: "hard link to a whiteout", ents: []ent{file(".wh.gone", ""), hard("mine", "gone")}, err: "not in this layer"},
	{name: "hard link to a link links the link", ents: []ent{sym("a", "/canary"), hard("b", "a")},
		want: map[string]string{"b": "-> /canary"}},
	{name: "file in place of a hard-linked link", ents: []ent{sym("a", "/canary"), hard("b", "a"), file("b", "new")},
		want: map[string]string{"a": "-> /canary", "b": "file new"}},
	{name: "file in place of a hard link leaves the other", ents: after(passwd, hard("mine", "etc/passwd"), file("mine", "different")),
		want: map[string]string{"mine": "file different", "etc/passwd": "file inside"}},
	{name: "file in place of a link", ents: []ent{sym("a", "/canary"), file("a", "new")}, want: map[string]string{"a": "file new"}},
	{name: "file in place of a full directory", ents: after(passwd, file("etc", "flat")), want: map[string]string{"etc": "file flat"}},
	{name: "directory in place of a link", ents: after(passwd, sym("l", "/etc"), dir("l"), hard("l/p", "/etc/passwd")),
		want: map[string]string{"l": "dir"}, same: [2]string{"l/p", "etc/passwd"}},
	{name: "link in place of a full directory", ents: []ent{dir("foo"), dir("foo/tmp"), file("foo/tmp/f", "1"), sym("foo", "/"),
		file("foo/tmp/f", "2"), dir("foo"), dir("foo/tmp"), file("foo/tmp/f", "3")},
		want: map[string]string{"foo/tmp/f": "file 3", "tmp/f": "file 2"}},
	{name: "name with a parent", ents: []ent{file("a/../../f", "x")}, err: "leaves its directory"},
	{name: "name that is the parent", ents: []ent{sym("..", "/etc")}, err: "leaves its directory"},
	{name: "name that ends in the parent", ents: []ent{sym("a/..", "/etc")}, err: "leaves its directory"},
	{name: "absolute name", ents: []ent{file("///etc/f", "in")}, want: map[string]string{"etc/f": "file in"}},
	{name: "name with dots and slashes", ents: []ent{file("././/etc//./f", "in")}, want: map[string]string{"etc/f": "file in"}},
	{name: "root as a link", ents: []ent{sym(".", "/")}, err: "must be a directory"},
	{name: "root as a file", ents: []ent{file("./.", "x")}, err: "must be a directory"},
	{name: "root as an absolute link", ents: []ent{sym("/", "/tmp")}, err: "must be a directory"},
	{name: "root as a directory", ents: []ent{dir("./"), file("f", "in")}, want: map[string]string{"f": "file in"}},
	{name: "link without a target", ents: []ent{sym("a", "")}, err: "without a target"},
	{name: "device major out of range", ents: []ent{chr("dev", 1<<19, 1).with(bigDevice)}, err: "out of range"},
	{name: "device", ents: []ent{chr("null", 1, 3)}, want: map[string]string{"null": "char 1:3"}},
	{name: "owner out of range", ents: []ent{file("f", "").with(func(h *tar.Header) { h.Uid = 1 << 32; h.Format = tar.FormatGNU })}, err: "out of range"},
	{name: "owner minus one", ents: []ent{file("f", "").with(func(h *tar.Header) { h.Gid = 1<<32 - 1; h.Format = tar.FormatGNU })}, err: "out of range"},
	{name: "path too long", ents: []ent{file(strings.Repeat("d/", 2048)+"f", "")}, err: "bytes in a path"},
	{name: "link target too long", ents: []ent{sym("l", strings.Repeat("d/", 2048)+"f")}, err: "bytes in a link target"},
	{name: "mode of a link's target stays", ents: []ent{file("f", "x"), sym("l", "f").with(func(h *tar.Header) { h.Mode = 0o4777 })},
		want: map[string]string{"l": "-> f"}},
	{name: "parent is a file", ents: []ent{file("f", "x"), file("f/g", "x")}, err: "not a directory"},
}

func bigDevice(h *tar.Header) { h.Format = tar.FormatGNU }

func TestBreakouts(t *testing.T) {
	for _, c := range breakouts {
		t.Run(c.name, func(t *testing.T) {
			s := testStore(t)
			canary := filepath.Join(filepath.Dir(s.layout.Data), "canary")
			if err := os.WriteFile(canary, []byte("alive"), 0o600); err != nil {
				t.Fatal(err)
			}
			checkBreakout(t, s, c)
			around := names(t, filepath.Dir(s.layout.Data))
			if tell("/", canary) != "file alive" || around != "canary data" {
				t.Errorf("outside the root: canary is %s, beside it are %s", tell("/", canary), around)
			}
			if left := names(t, s.layout.Ingest()); left != "" {
				t.Errorf("left in the ingest directory: %s", left)
			}
		})
	}
}

func checkBreakout(t *testing.T, s *Store, c breakout) {
	t.Helper()
	m, err := s.Unpack(t.Context(), bytes.NewReader(archive(t, c.ents...)))
	if c.err != "" {
		if err == nil || !strings.Contains(err.Error(), c.err) {
			t.Fatalf("error is %v, want one about %q", err, c.err)
		}
		if got := names(t, s.layout.Layers()); got != "" {
			t.Errorf("layers after an error: %s", got)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	root := s.FS(m.ID)
	for path, want := range c.want {
		if got := tell(root, path); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
	if c.same[0] != "" {
		a, erra := os.Lstat(filepath.Join(root, c.same[0]))
		b, errb := os.Lstat(filepath.Join(root, c.same[1]))
		if erra != nil || errb != nil || !os.SameFile(a, b) {
			t.Errorf("%s and %s are not one file (%v, %v)", c.same[0], c.same[1], erra, errb)
		}
	}
}

func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}

// whiteouts are the cases of containerd's Whiteout… tests, and what follows
// from a layer being unpacked by itself.
var whiteouts = []breakout{
	{name: "of the root's parent", ents: []ent{file(".wh...", "")}, err: "whiteout"},
	{name: "of a parent", ents: after(passwd, file("etc/.wh...", "")), err: "whiteout"},
	{name: "of the root", ents: []ent{file(".wh..", "")}, err: "whiteout"},
	{name: "of the current directory", ents: after(passwd, file("etc/.wh..", "")), err: "whiteout"},
	{name: "of nothing", ents: []ent{file(".wh.", "")}, err: "whiteout"},
	{name: "through a parent", ents: []ent{file(".wh.a/../../x", "")}, err: "leaves its directory"},
	{name: "of a name below", ents: []ent{file(".wh.localetc", "")}, want: map[string]string{"localetc": "whiteout"}},
	{name: "by a link", ents: after(passwd, sym("localetc", "/etc"), file("localetc/.wh.shadow", "")),
		want: map[string]string{"etc/shadow": "whiteout", "etc/passwd": "file inside"}},
	{name: "as a directory's name", ents: after(passwd, file(".wh.etc/somefile", "x")),
		want: map[string]string{"etc": "dir", "etc/passwd": "file inside", ".wh.etc/somefile": "file x"}},
	{name: "below a dead link", ents: after(passwd, sym("dead", "/dne"), file("dead/.wh.etc", "")),
		want: map[string]string{"etc/passwd": "file inside", "dne/etc": "whiteout"}},
	{name: "opaque", ents: []ent{file("etc/.wh..wh..opq", ""), file("etc/group", "all")},
		want: map[string]string{"etc": "opaque", "etc/group": "file all"}},
	{name: "opaque, out of order", ents: []ent{dir("etc"), file("etc/group", "all"), file("etc/.wh..wh..opq", "")},
		want: map[string]string{"etc": "opaque", "etc/group": "file all"}},
	{name: "opaque root", ents: []ent{file(".wh..wh..opq", ""), file("f", "x")}, want: map[string]string{".": "opaque", "f": "file x"}},
	{name: "housekeeping of aufs", ents: []ent{dir(".wh..wh.plnk"), file(".wh..wh.aufs", "x"), file("f", "x")},
		want: map[string]string{"f": "file x", ".wh..wh.aufs": "nothing", ".wh..wh.plnk": "nothing"}},
	{name: "then the file again", ents: []ent{file(".wh.f", ""), file("f", "new")}, want: map[string]string{"f": "file new"}},
	{name: "after the file, which stays", ents: []ent{file("f", "new"), file(".wh.f", "")}, want: map[string]string{"f": "file new"}},
	{name: "then a directory, which is opaque", ents: []ent{file(".wh.d", ""), dir("d"), file("d/f", "x")},
		want: map[string]string{"d": "opaque", "d/f": "file x"}},
	{name: "after a directory, which becomes opaque", ents: []ent{dir("d"), file("d/f", "x"), file(".wh.d", "")},
		want: map[string]string{"d": "opaque", "d/f": "file x"}},
	{name: "mark of the overlay in an archive", ents: []ent{dir("d").with(func(h *tar.Header) {
		h.PAXRecords = map[string]string{"SCHILY.xattr.trusted.overlay.opaque": "y", "SCHILY.xattr.user.overlay.opaque": "y",
			"SCHILY.xattr.trusted.overlay.redirect": "/etc"}
	})}, want: map[string]string{"d": "dir"}},
}

func TestWhiteouts(t *testing.T) {
	for _, c := range whiteouts {
		t.Run(c.name, func(t *testing.T) { checkBreakout(t, testStore(t), c) })
	}
}
