package netdns

import (
	"strings"
	"testing"
)

func TestLinkNamesFit(t *testing.T) {
	tag := TagOf("/some/where")
	for _, n := range []string{tag.Bridge(strings.Repeat("x", 64)), tag.Port("c", "n")} {
		if len(n) > 15 || !strings.HasPrefix(n, LinkPrefix) {
			t.Errorf("link name %q", n)
		}
	}
	if TagOf("/a") == TagOf("/b") || TagOf("/a") != TagOf("/a/") {
		t.Error("tags do not tell directories apart")
	}
	if TagOf(StandardDir).Table() != "davit" || tag.Table() == "davit" {
		t.Errorf("tables %q and %q", TagOf(StandardDir).Table(), tag.Table())
	}
}

func TestHostileNamesAreRefused(t *testing.T) {
	for _, n := range []string{"", ".", "..", "../../x", "a/b", "-x", ".x", "a b", "a\x00b", "ä", "a;b", strings.Repeat("x", 16), "a\n"} {
		if CheckName("interface", n, 15) == nil {
			t.Errorf("%q was taken", n)
		}
	}
	for _, n := range []string{"eth0", "shop_default", "a.b-c", "_x", "0"} {
		if err := CheckName("interface", n, 15); err != nil {
			t.Errorf("%q: %v", n, err)
		}
	}
}
