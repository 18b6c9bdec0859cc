package attach

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/netdns"
)

// A fullDisk takes no leases.
type fullDisk struct{ netdns.Records }

func (f fullDisk) Write(key string, v any) error {
	if strings.HasSuffix(key, "/leases") {
		return &os.PathError{Op: "write", Path: key, Err: unix.ENOSPC}
	}
	return f.Records.Write(key, v)
}

// A container can go on a full disk, and what it had is given to the next one.
func TestDetachOnAFullDisk(t *testing.T) {
	w := newWorld(t)
	n := w.network(netdns.Network{Name: "a"})
	want := netdns.Endpoint{Network: "a", Container: "c-first", Project: "p", Name: "first"}
	want.IPv4 = nth(n.Pools[0].Subnet, 9)
	attach := func() error {
		ns, err := w.h.Sandbox(ctx)
		must(t, err)
		defer ns.Close()
		_, err = w.h.Attach(ctx, ns, want)
		return err
	}
	must(t, attach())
	full, err := NewIn(fullDisk{w.rec}, w.host)
	must(t, err)
	defer full.Close()
	first := want
	want.Container, want.Name = "c-next", "next"
	if err := attach(); err == nil || !strings.Contains(err.Error(), "held by container c-first") {
		t.Errorf("an address that is in use: got %v", err)
	}
	must(t, full.Detach(ctx, first))
	must(t, full.Detach(ctx, first)) // it is idempotent
	must(t, attach())
}

// nth is an address of a subnet.
func nth(p netip.Prefix, n int) netip.Addr {
	a := p.Addr()
	for range n {
		a = a.Next()
	}
	return a
}
