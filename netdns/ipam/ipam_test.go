package ipam

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/davit-run/davit/netdns"
)

// mem keeps records in memory, as JSON.
type mem map[string][]byte

func (m mem) Read(key string, v any) error {
	b, ok := m[key]
	if !ok {
		return fmt.Errorf("record %s: %w", key, fs.ErrNotExist)
	}
	return json.Unmarshal(b, v)
}

func (m mem) Write(key string, v any) (err error) { m[key], err = json.Marshal(v); return err }

func (m mem) Remove(key string) error { delete(m, key); return nil }

func (m mem) List(string) ([]string, error) { return nil, nil }

func (m mem) Lock(string) (func(), error) { return func() {}, nil }

func (m mem) Dir(key string) string { return "/" + key }

func network(pools ...netdns.Pool) netdns.Network {
	n := netdns.Network{Name: "n"}
	for _, p := range pools {
		p, err := Complete(p)
		if err != nil {
			panic(err)
		}
		n.Pools = append(n.Pools, p)
	}
	return n
}

func pool(s string) netdns.Pool { return netdns.Pool{Subnet: netip.MustParsePrefix(s)} }

func TestAddressesGoRoundAndRunOut(t *testing.T) {
	rec, n := mem{}, network(pool("10.0.0.0/29"))
	lease := func(holder string) (netip.Addr, error) {
		a, _, err := Lease(rec, n, Want{Holder: holder})
		return a, err
	}
	seen := map[netip.Addr]bool{}
	for i := range 5 { // .2 to .6
		a, err := lease(fmt.Sprintf("c%d", i))
		if err != nil || seen[a] || !n.Pools[0].Subnet.Contains(a) || a == n.Pools[0].Gateway {
			t.Fatalf("lease %d: %s, %v", i, a, err)
		}
		seen[a] = true
	}
	_, err := lease("one-more")
	if err == nil || !strings.Contains(err.Error(), "c3 (10.0.0.5)") {
		t.Errorf("when all are taken, who holds them: %v", err)
	}
	again, err := lease("c2")
	if err != nil || !seen[again] {
		t.Errorf("the same holder again: %s, %v", again, err)
	}
	for range 2 {
		if err := Release(rec, "n", "c1"); err != nil {
			t.Fatal(err)
		}
	}
	if a, err := lease("new"); err != nil || a != netip.MustParseAddr("10.0.0.3") {
		t.Errorf("after a release: %s, %v", a, err)
	}
}

func TestAFreshContainerDoesNotInheritAnAddressAtOnce(t *testing.T) {
	rec, n := mem{}, network(pool("10.0.0.0/24"))
	a, _, _ := Lease(rec, n, Want{Holder: "a"})
	_ = Release(rec, "n", "a")
	b, _, err := Lease(rec, n, Want{Holder: "b"})
	if err != nil || a == b {
		t.Errorf("a had %s, b has %s, %v", a, b, err)
	}
}

func TestBothFamilies(t *testing.T) {
	rec, n := mem{}, network(pool("10.0.0.0/24"), pool("fd00:1::/64"))
	a, b, err := Lease(rec, n, Want{Holder: "a", IPv6: netip.MustParseAddr("fd00:1::99")})
	if err != nil || !a.Is4() || b.String() != "fd00:1::99" {
		t.Errorf("got %s and %s, %v", a, b, err)
	}
	if _, b, err = Lease(rec, n, Want{Holder: "b"}); err != nil || b.String() != "fd00:1::2" {
		t.Errorf("next IPv6: %s, %v", b, err)
	}
}

func TestChosenSubnetsNeverOverlap(t *testing.T) {
	s := Standard(netdns.TagOf(netdns.StandardDir))
	used := []Use{{netip.MustParsePrefix("172.18.0.0/16"), "docker"}, {netip.MustParsePrefix("172.19.4.0/30"), "vpn"}}
	for i := range 500 {
		p, err := s.Choose(false, used)
		if err != nil || p.Bits() != 24 || Overlap(p, used) != nil {
			t.Fatalf("choice %d: %s, %v", i, p, err)
		}
		used = append(used, Use{p, "davit"})
	}
	six, err := s.Choose(true, nil)
	if err != nil || six.Bits() != 64 || !netip.MustParsePrefix("fd00::/8").Contains(six.Addr()) {
		t.Errorf("IPv6: %s, %v", six, err)
	}
	full := []Use{{netip.MustParsePrefix("172.16.0.0/12"), "corp"}, {netip.MustParsePrefix("10.0.0.0/8"), "lab"}}
	if _, err := s.Choose(false, full); err == nil || !strings.Contains(err.Error(), "10.0.0.0/8 by lab") {
		t.Errorf("when none is left, who has them: %v", err)
	}
	a, _ := Standard("aaaa").Choose(false, nil)
	b, _ := Standard("bbbb").Choose(false, nil)
	if a == b {
		t.Errorf("two installations begin at the same subnet, %s", a)
	}
}

func TestPoolsOfAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), File)
	write := func(text string) (Space, error) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return Read(path, netdns.TagOf(netdns.StandardDir))
	}
	none, err := Read(path, "aaaa")
	if err != nil || len(none.Ranges) != len(Standard("aaaa").Ranges) {
		t.Errorf("without a file: %v, %v", none, err)
	}
	s, err := write(`{"ipv4": ["10.66.0.0/23"], "ipv6": "fd66::/48"}`)
	if err != nil {
		t.Fatal(err)
	}
	var used []Use
	for _, want := range []string{"10.66.0.0/24", "10.66.1.0/24"} {
		p, err := s.Choose(false, used)
		if err != nil || p.String() != want {
			t.Errorf("chose %s, %v, want %s", p, err, want)
		}
		used = append(used, Use{p, "network " + want})
	}
	if _, err := s.Choose(false, used); err == nil || !strings.Contains(err.Error(), "10.66.1.0/24 by network") {
		t.Errorf("exhausted: %v", err)
	}
	if p, _ := s.Choose(true, nil); !netip.MustParsePrefix("fd66::/48").Contains(p.Addr()) {
		t.Errorf("IPv6: %s", p)
	}
	for _, bad := range []string{"{", `{"ipv4": ["10.0.0.0/25"]}`, `{"ipv4": ["10.0.0.1/16"]}`, `{"ipv6": "fd00::/64"}`, `{"ip": []}`} {
		if _, err := write(bad); err == nil || !strings.Contains(err.Error(), "address pools") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestBadPoolsAreRefused(t *testing.T) {
	for want, p := range map[string]netdns.Pool{
		"10.0.0.0/24":   pool("10.0.0.1/24"),
		"too small":     pool("10.0.0.0/31"),
		"ip_range":      {Subnet: netip.MustParsePrefix("10.0.0.0/24"), Range: netip.MustParsePrefix("10.0.1.0/25")},
		"gateway":       {Subnet: netip.MustParsePrefix("10.0.0.0/24"), Gateway: netip.MustParseAddr("10.0.1.1")},
		"aux_addresses": {Subnet: netip.MustParsePrefix("10.0.0.0/24"), Aux: map[string]netip.Addr{"x": netip.MustParseAddr("10.0.1.1")}},
	} {
		if _, err := Complete(p); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
