package main

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

func TestBenchmarksBecomeACurve(t *testing.T) {
	var c curve
	wanted := map[string]string{"Lookup tail": "tail", "Lookup since": "since", "Plan": "plan"}
	for _, text := range []string{
		"BenchmarkLookup/10-2 \t 100\t 4147194 ns/op\t 16551243 ns-worst/since\t 1967864 ns/tail",
		"BenchmarkPlan/1000-2  12 34 ns/op  3 B/op",
		"ok  \tgithub.com/davit-run/davit/reconcile\t1.2s",
	} {
		if m := benchLine.FindStringSubmatch(text); m != nil {
			c.metrics(wanted, m[1], map[string]float64{"10": 10, "1000": 1000}[m[2]], strings.Fields(m[3]))
		}
	}
	want := map[string]point{"tail": {10, 1967864}, "since": {10, 16551243}, "plan": {1000, 34}}
	if len(c.series) != len(want) {
		t.Fatalf("%+v", c.series)
	}
	for _, s := range c.series {
		if len(s.points) != 1 || s.points[0] != want[s.name] {
			t.Errorf("%+v, want %+v", s, want[s.name])
		}
	}
}

func TestPlotIsWellFormedAndInItsFrame(t *testing.T) {
	c := curve{title: "t", x: "n", series: []series{{"a", []point{{1, time.Millisecond}, {1000, time.Second}}}, {"one", []point{{50, 3 * time.Second}}}}}
	out := c.svg()
	circles := 0
	for d := xml.NewDecoder(strings.NewReader(string(out))); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "circle" {
			circles++
		}
	}
	if circles != 3 || strings.Contains(string(out), "NaN") || strings.Contains(string(out), `cy="-`) {
		t.Errorf("%s", out)
	}
	minX, maxX, minY, maxY := c.bounds()
	if minX != 1 || maxX != 1000 || minY != 1e6 || maxY != 1e10 {
		t.Error(minX, maxX, minY, maxY)
	}
}
