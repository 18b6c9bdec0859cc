package registry

import (
	"net/http"
	"testing"
	"time"
)

// TestPause: a registry's wish to wait is read in both of its forms.
func TestPause(t *testing.T) {
	now := time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		code  int
		after string
		wait  time.Duration
		asked bool
	}{
		{429, "2", 2 * time.Second, true}, {503, "0", 0, true}, {503, "Tue, 01 Jan 2030 12:00:09 GMT", 9 * time.Second, true},
		{429, "Tue, 01 Jan 2019 12:00:09 GMT", 0, true}, {429, "", 0, false}, {429, "-1", 0, false}, {200, "5", 0, false}, {500, "5", 0, false},
	} {
		wait, asked := pause(&http.Response{StatusCode: c.code, Header: http.Header{"Retry-After": {c.after}}}, now)
		if wait != c.wait || asked != c.asked {
			t.Errorf("%d %q: %v, %v; want %v, %v", c.code, c.after, wait, asked, c.wait, c.asked)
		}
	}
}
