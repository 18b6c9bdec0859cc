package keeper

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/davit-run/davit/engine"
)

func TestJudge(t *testing.T) {
	plan := Plan{Retries: 3, StartPeriod: 10 * time.Second}
	for name, r := range map[string]struct {
		before engine.Health
		code   int
		up     time.Duration
		status string
		fails  int
	}{
		"one success makes it healthy":              {engine.Health{Status: starting}, 0, time.Second, healthy, 0},
		"a failure in the start period counts not":  {engine.Health{Status: starting}, 1, time.Second, starting, 0},
		"after the start period it counts":          {engine.Health{Status: starting}, 1, 11 * time.Second, starting, 1},
		"a success ended the start period":          {engine.Health{Status: healthy}, 1, time.Second, healthy, 1},
		"so many failures in a row make it so":      {engine.Health{Status: healthy, Failing: 2}, 1, time.Hour, unhealthy, 3},
		"a success forgives all":                    {engine.Health{Status: unhealthy, Failing: 9}, 0, time.Hour, healthy, 0},
		"a timeout is a failure":                    {engine.Health{Status: starting, Failing: 2}, -1, time.Hour, unhealthy, 3},
		"the unhealthy stay so":                     {engine.Health{Status: unhealthy, Failing: 3}, 1, time.Hour, unhealthy, 4},
		"the unhealthy stay so in the start period": {engine.Health{Status: unhealthy, Failing: 3}, 1, time.Second, unhealthy, 4},
	} {
		got := plan.Judge(r.before, engine.Probe{ExitCode: r.code}, r.up)
		if got.Status != r.status || got.Failing != r.fails {
			t.Errorf("%s: %s, %d failing; want %s, %d", name, got.Status, got.Failing, r.status, r.fails)
		}
	}
}

func TestJudgeKeepsTheLastFiveAndBoundsTheirOutput(t *testing.T) {
	h := engine.Health{Status: starting}
	for i := range 9 {
		h = Plan{Retries: 3}.Judge(h, engine.Probe{ExitCode: i, Output: strings.Repeat("x", 1<<20)}, time.Hour)
	}
	if len(h.Log) != 5 || h.Log[0].ExitCode != 4 || len(h.Log[4].Output) != keptOutput {
		t.Fatalf("%d probes, first %d, %d bytes", len(h.Log), h.Log[0].ExitCode, len(h.Log[4].Output))
	}
}

func TestHealthPlan(t *testing.T) {
	image := &engine.ImageHealth{Test: []string{"CMD", "/check"}, Interval: time.Second, Retries: 7}
	for name, r := range map[string]struct {
		spec  *engine.HealthCheck
		image *engine.ImageHealth
		args  []string
	}{
		"none anywhere":                {nil, nil, nil},
		"the image's":                  {nil, image, []string{"/check"}},
		"NONE turns the image's off":   {&engine.HealthCheck{Test: []string{"NONE"}}, image, nil},
		"a shell line":                 {&engine.HealthCheck{Test: []string{"CMD-SHELL", "a | b"}}, image, []string{"/bin/sh", "-c", "a | b"}},
		"only the interval is changed": {&engine.HealthCheck{Interval: engine.Duration(time.Minute)}, image, []string{"/check"}},
	} {
		p, ok := HealthPlan(&engine.Container{Spec: engine.Spec{Health: r.spec}, ImageConfig: engine.ImageConfig{Healthcheck: r.image}})
		if ok != (r.args != nil) || !slices.Equal(p.Args, r.args) {
			t.Errorf("%s: %v %v", name, p.Args, ok)
		}
	}
	p, _ := HealthPlan(&engine.Container{Spec: engine.Spec{Health: &engine.HealthCheck{Interval: engine.Duration(time.Minute)}}, ImageConfig: engine.ImageConfig{Healthcheck: image}})
	if p.Interval != time.Minute || p.Retries != 7 || p.Timeout != defaultTimeout || p.StartInterval != defaultStartInterval {
		t.Errorf("plan %+v", p)
	}
}

func TestWait(t *testing.T) {
	p := Plan{Interval: 30 * time.Second, StartPeriod: 10 * time.Second, StartInterval: time.Second}
	for name, r := range map[string]struct {
		status string
		up     time.Duration
		want   time.Duration
	}{
		"often while it starts":         {starting, 5 * time.Second, time.Second},
		"seldom once it is healthy":     {healthy, 5 * time.Second, 30 * time.Second},
		"seldom after its start period": {starting, 10 * time.Second, 30 * time.Second},
	} {
		if got := p.Wait(r.status, r.up); got != r.want {
			t.Errorf("%s: %v, want %v", name, got, r.want)
		}
	}
}

func TestParseSignal(t *testing.T) {
	for s, want := range map[string]int{"TERM": 15, "SIGTERM": 15, "sigusr1": 10, "9": 9, "SIGRTMIN+3": 37, "SIGRTMAX-2": 62, "rtmin": 34} {
		if got, err := ParseSignal(s); err != nil || int(got) != want {
			t.Errorf("%s: %d %v, want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "SIGNONE", "0", "65", "-1", "SIGRTMIN+99", "SIGRTMINx"} {
		if got, err := ParseSignal(s); err == nil {
			t.Errorf("%q is signal %d", s, got)
		}
	}
}
