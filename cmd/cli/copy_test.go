package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/registry"
)

func TestSidesOfACopy(t *testing.T) {
	for arg, want := range map[string][2]string{
		"web:/etc": {"web", "/etc"}, "web:etc": {"web", "etc"}, "file": {"", "file"}, "./a:b": {"", "./a:b"},
		"/a:b": {"", "/a:b"}, "-": {"", "-"}, "web:": {"web", ""},
	} {
		if service, path := splitCopy(arg); service != want[0] || path != want[1] {
			t.Errorf("%q: %q, %q", arg, service, path)
		}
	}
}

func TestATransferAddsUpItsLayers(t *testing.T) {
	now := time.Now()
	var said string
	tr := newTransfer(func(s string) { said = s })
	tr.begun = now.Add(-2 * time.Second)
	tr.report(registry.Progress{Layer: "a", Status: "Already exists", Total: 10e6})
	tr.layers["b"] = registry.Progress{Layer: "b", Status: "Downloading", Done: 20e6, Total: 50e6}
	if got := tr.text(now); got != "30MB / 60MB, 10MB/s" {
		t.Errorf("%s", got)
	}
	if !strings.HasPrefix(said, "10MB / 10MB") {
		t.Errorf("told %q", said)
	}
}

func TestVolumeFilters(t *testing.T) {
	v := engine.Volume{Name: "db_data", Driver: "local", Labels: map[string]string{"team": "blue", "x": ""}}
	used := map[string][]string{"db_data": {"web"}}
	for words, want := range map[string]bool{
		"": true, "name=db": true, "name=no": false, "name=no name=data": true, "label=team": true, "label=team=red": false,
		"label=team=blue label=x": true, "label=team label=none": false, "dangling=true": false, "dangling=false": true,
		"driver=nfs": false, "name=db dangling=true": false, "label!=none": true,
	} {
		got, err := volumeMatches(v, strings.Fields(words), used)
		if err != nil || got != want {
			t.Errorf("%q: %v, %v", words, got, err)
		}
	}
	if _, err := volumeMatches(v, []string{"size=1"}, used); err == nil {
		t.Error("an unknown filter was taken")
	}
}
