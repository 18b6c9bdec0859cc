package logs

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// timeLayouts are the forms of --since and --until that docker takes; those
// without a zone mean local time.
var timeLayouts = [...]string{
	time.RFC3339Nano,
	"2006-01-02T15:04:05.999999999",
	"2006-01-02T15:04Z07:00",
	"2006-01-02T15:04",
	"2006-01-02Z07:00",
	"2006-01-02",
}

// ParseTime reads what --since and --until are given: a timestamp such as
// 2013-01-02T13:23:37Z, seconds since 1970, or how long before now, such as
// 42m. An empty text is the zero time. See
// https://docs.docker.com/reference/cli/docker/compose/logs/.
func ParseTime(s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(s); err == nil {
		return now.Add(-d), nil
	}
	for _, layout := range timeLayouts {
		if t, err := time.ParseInLocation(layout, s, now.Location()); err == nil {
			return t, nil
		}
	}
	seconds, fraction, _ := strings.Cut(s, ".")
	sec, err := strconv.ParseInt(seconds, 10, 64)
	ns, nerr := strconv.ParseUint((fraction + "000000000")[:9], 10, 32)
	if err != nil || nerr != nil {
		return time.Time{}, fmt.Errorf("%q is not a time: use 2006-01-02T15:04:05Z, seconds since 1970, or 42m for 42 minutes ago", s)
	}
	return time.Unix(sec, int64(ns)), nil
}
