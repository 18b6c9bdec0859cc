package anchor

import (
	"strings"
	"testing"

	"github.com/davit-run/davit/engine/store"
)

func TestUnit(t *testing.T) {
	usual := store.Layout{Data: "/var/lib/davit", Run: "/run/davit"}
	for name, row := range map[string]struct{ project, want string }{
		"a project's name is the unit's":        {"shop", "davit-shop.scope"},
		"a dash stays a dash":                   {"my-shop_2", "davit-my-shop_2.scope"},
		"what no unit may be called is escaped": {"a b/c@é", `davit-a\x20b\x2fc\x40\xc3\xa9.scope`},
	} {
		if got := Unit(usual, row.project); got != row.want {
			t.Errorf("%s: %s", name, got)
		}
	}
	seen := map[string]bool{}
	for _, run := range []string{"/run/davit", "/tmp/a/run", "/tmp/b/run"} {
		for _, project := range []string{"shop", strings.Repeat("x", 300), strings.Repeat("x", 301), strings.Repeat("/", 99)} {
			got := Unit(store.Layout{Run: run}, project)
			if len(got) > longestUnit || !strings.HasPrefix(got, "davit-") || !strings.HasSuffix(got, ".scope") || seen[got] {
				t.Errorf("%s of %s: %s", project, run, got)
			}
			seen[got] = true
		}
	}
}

func TestInUnit(t *testing.T) {
	const name = "davit-shop.scope"
	at := func(own string) []hierarchy {
		return []hierarchy{{dir: "/sys/fs/cgroup/cpu", own: "/else"}, {dir: "/sys/fs/cgroup/systemd", own: own, systemd: true}}
	}
	for own, want := range map[string]string{
		"/":                                       "",
		"/user.slice/session-1.scope":             "",
		"/davit/shop/keeper":                      "",
		"/davit.slice/davit-shop.scope":           "/davit.slice/davit-shop.scope",
		"/davit.slice/davit-shop.scope/keeper":    "/davit.slice/davit-shop.scope",
		"/x/davit.slice/davit-shop.scope/keeper":  "/x/davit.slice/davit-shop.scope",
		"/davit.slice/davit-shop2.scope/keeper":   "",
		"/davit.slice/davit-shop.scope/0123/some": "",
	} {
		if got := inUnit(at(own), name); got != want {
			t.Errorf("%s: %q, want %q", own, got, want)
		}
	}
}
