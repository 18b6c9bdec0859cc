package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/davit-run/davit/tests/kernel"
)

func TestRatiosArePairByPair(t *testing.T) {
	r := row{name: "up", times: [][]time.Duration{{10, 20, 30}, {20, 20, 300}}}
	if l := r.line(); l.Ratio != 0.5 || l.Peer.Median != 20.0/1e6 || l.CLI.N != 3 {
		t.Errorf("got %+v with peer %v: want the median of 0.5, 1 and 0.1", l, l.Peer)
	}
}

func TestSharesAreRoundByRound(t *testing.T) {
	b := bench{rows: []*row{
		{name: "through", of: "direct", times: [][]time.Duration{{100, 100, 100}}},
		{name: "direct", times: [][]time.Duration{{90, 10, 95}}},
	}}
	if got := b.share(b.rows[0]); got != 0.9 {
		t.Errorf("got %v: want the median of 0.9, 0.1 and 0.95", got)
	}
	if got := b.share(b.rows[1]); got != 0 {
		t.Errorf("a row that is no share has %v", got)
	}
}

func TestOnlyWhatBecameAFifthSlowerIsReported(t *testing.T) {
	path := filepath.Join(t.TempDir(), "old.json")
	old := report{Rows: []line{{Name: "a", CLI: spread{Median: 10}}, {Name: "b", CLI: spread{Median: 10}, Ratio: 0.5}, {Name: "c", CLI: spread{Median: 10}}},
		Floors: []line{{Name: forkAndExec, CLI: spread{Median: 1}}}}
	if err := writeJSON(path, old); err != nil {
		t.Fatal(err)
	}
	now := report{Rows: []line{
		{Name: "a", CLI: spread{Median: 11.9}},
		{Name: "b", CLI: spread{Median: 5}, Ratio: 0.61},
		{Name: "new", CLI: spread{Median: 99}},
		{Name: "c", CLI: spread{Median: 30}},
	}, Floors: []line{{Name: forkAndExec, CLI: spread{Median: 2}}}}
	var out strings.Builder
	if err := now.compare(&out, path); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); got != "slower: b: 0.61 of the peer, was 0.50\nslower: c: 15.00 times the floor, was 10.00\n" {
		t.Errorf("got %q", got)
	}
	if err := now.compare(&out, filepath.Join(t.TempDir(), "none")); !os.IsNotExist(err) {
		t.Errorf("a baseline that is not there: %v", err)
	}
}

func TestFloorsCanBeMeasured(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("namespaces need the superuser")
	}
	if err := kernel.Isolate(); err != nil { // its links are nobody else's
		t.Fatal(err)
	}
	rows, err := measureFloors(t.TempDir(), 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if r.line().CLI.Median <= 0 {
			t.Errorf("%s took no time", r.name)
		}
	}
}
