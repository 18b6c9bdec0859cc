package logs

import (
	"testing"
	"time"
)

func TestParseTime(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.FixedZone("CEST", 7200))
	good := map[string]time.Time{
		"":                          {},
		"42m":                       now.Add(-42 * time.Minute),
		"1h30m":                     now.Add(-90 * time.Minute),
		"2013-01-02T13:23:37Z":      time.Date(2013, 1, 2, 13, 23, 37, 0, time.UTC),
		"2013-01-02T13:23:37.5Z":    time.Date(2013, 1, 2, 13, 23, 37, 5e8, time.UTC),
		"2013-01-02T13:23:37+02:00": time.Date(2013, 1, 2, 11, 23, 37, 0, time.UTC),
		"2013-01-02T13:23:37":       time.Date(2013, 1, 2, 11, 23, 37, 0, time.UTC),
		"2013-01-02T13:23":          time.Date(2013, 1, 2, 11, 23, 0, 0, time.UTC),
		"2013-01-02":                time.Date(2013, 1, 1, 22, 0, 0, 0, time.UTC),
		"1357132986":                time.Unix(1357132986, 0),
		"1357132986.25":             time.Unix(1357132986, 25e7),
	}
	for in, want := range good {
		if got, err := ParseTime(in, now); err != nil || !got.Equal(want) {
			t.Errorf("%q is %v, %v; want %v", in, got, err, want)
		}
	}
	for _, bad := range []string{"yesterday", "12:30", "2013-13-01", "1.x", "42 m", "--"} {
		if got, err := ParseTime(bad, now); err == nil {
			t.Errorf("%q is %v", bad, got)
		}
	}
}
