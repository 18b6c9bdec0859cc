package desired

import (
	"testing"
	"time"
)

func TestSpansCountWeeksAndDays(t *testing.T) {
	day := 24 * time.Hour
	for words, want := range map[string]time.Duration{
		"12h": 12 * time.Hour, "3d": 3 * day, "1w": 7 * day, "1w2d12h": 9*day + 12*time.Hour, "90s": 90 * time.Second, "0s": 0,
	} {
		if got, err := span(words); err != nil || got != want {
			t.Errorf("%q: %v, %v; want %v", words, got, err, want)
		}
	}
	for _, words := range []string{"", "d", "x", "-1h", "-3d", "3", "1d2x"} {
		if got, err := span(words); err == nil && words != "" {
			t.Errorf("%q was read as %v", words, got)
		}
	}
}
