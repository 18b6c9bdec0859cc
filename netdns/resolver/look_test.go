package resolver

import (
	"testing"

	"github.com/davit-run/davit/tests/records"
)

// What its writer asks to be looked at is known at once, be it other names, one
// endpoint less or one more, though the watch tells of nothing.
func TestWhoeverWritesAnEndpointNeedsNoWatch(t *testing.T) {
	rec := &records.Files{Root: t.TempDir()}
	d, err := OpenDirectory(rec)
	must(t, err)
	defer d.Close()
	must(t, d.Follow("n"))
	must(t, d.watch.Remove(rec.Dir(key("n"))))
	knows := func(name string) bool {
		_, ok := d.lookup([]byte(name), "p", []string{"n"}, nil)
		return ok
	}
	ep := endpoint("n", "p", "web-1", "10.0.0.2", "old")
	must(t, rec.Write(key("n")+"/"+ep.Container, ep))
	d.Look("n", ep.Container)
	if !knows("old") {
		t.Error("an endpoint that was added is unknown")
	}
	ep.Names = []string{"new"}
	must(t, rec.Write(key("n")+"/"+ep.Container, ep))
	d.Look("n", ep.Container)
	if knows("old") || !knows("new") {
		t.Error("an endpoint has the names it had")
	}
	must(t, rec.Remove(key("n")+"/"+ep.Container))
	d.Look("n", ep.Container)
	if knows("new") || knows("web-1") {
		t.Error("an endpoint that was removed is known")
	}
	d.Look("elsewhere", ep.Container)
	if d.zones["elsewhere"] != nil {
		t.Error("a network is known that nobody follows")
	}
}
