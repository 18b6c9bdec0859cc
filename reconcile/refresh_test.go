package reconcile

import (
	"testing"
	"time"
)

func TestAnImageIsLookedForAgainWhenItsTimeIsOver(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, c := range map[string]struct {
		policy  string
		present bool
		age     time.Duration
		pull    string
		want    bool
	}{
		"missing":                {"daily", false, 0, "", true},
		"young":                  {"daily", true, 23 * time.Hour, "", false},
		"old":                    {"daily", true, 24 * time.Hour, "", true},
		"old, refresh":           {"refresh", true, 25 * time.Hour, "", true},
		"young, every":           {"every_1d", true, time.Hour, "", false},
		"old, but told never":    {"daily", true, 48 * time.Hour, "never", false},
		"young, but told always": {"daily", true, time.Hour, "always", true},
		"old, without policy":    {"", true, 48 * time.Hour, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			d := Desired{
				Project:    "p",
				Images:     []Image{{Ref: "x", Service: "a", PullPolicy: c.policy, RefreshAfter: 24 * time.Hour}},
				Containers: []Container{{Name: "p-a-1", Service: "a", Number: 1}},
			}
			d.Containers[0].Spec.Image = "x"
			a := Actual{Pulled: map[string]time.Time{"x": now.Add(-c.age)}}
			if c.present {
				a.Images = map[string]string{"x": "sha256:1"}
			}
			steps := Images(d, a, Options{Now: now, Pull: c.pull})
			if got := len(steps) > 0; got != c.want {
				t.Errorf("pulls: %v, want %v: %v", got, c.want, steps)
			}
		})
	}
}
