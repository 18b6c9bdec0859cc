package registry

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"time"
)

// A registry that is busy may ask for a pause; one longer than maxPause is
// told to the user instead, and no request waits more often than maxPauses.
const (
	maxPause  = 30 * time.Second
	maxPauses = 4
)

// stallAfter is how long a body may bring nothing before its connection is
// given up: the pull then goes on where it stood, over another one.
var stallAfter = 30 * time.Second

// errStalled is of a connection that never brought a byte of its body.
var errStalled = errors.New("the registry sends nothing")

// A patient transport waits when a registry asks for it (429 and 503 with
// Retry-After, RFC 9110 10.2.3), and gives up connections that stall.
type patient struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (p patient) RoundTrip(r *http.Request) (*http.Response, error) {
	for pauses := 0; ; pauses++ {
		resp, err := p.send(r)
		if err != nil || r.Body != nil || pauses == maxPauses {
			return resp, err
		}
		wait, asked := pause(resp, time.Now())
		if !asked || wait > maxPause {
			return resp, nil
		}
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxToken))
		resp.Body.Close()
		select {
		case <-r.Context().Done():
			return nil, r.Context().Err()
		case <-time.After(wait):
		}
	}
}

// send does one request. Its context ends with the body, or when that stalls.
func (p patient) send(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(r.Context())
	resp, err := p.next.RoundTrip(r.WithContext(ctx))
	if err != nil {
		cancel()
		return nil, err
	}
	resp.Body = &watched{ReadCloser: resp.Body, outer: r.Context(), cancel: cancel}
	return resp, nil
}

// pause is how long a response asks to wait: seconds or a date.
func pause(resp *http.Response, now time.Time) (time.Duration, bool) {
	if resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusServiceUnavailable {
		return 0, false
	}
	value := resp.Header.Get("Retry-After")
	if n, err := strconv.ParseUint(value, 10, 32); err == nil {
		return time.Duration(n) * time.Second, true
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, at.Sub(now)), true
	}
	return 0, false
}

// A watched body ends its request's context when nothing comes for stallAfter.
type watched struct {
	io.ReadCloser
	outer  context.Context
	cancel context.CancelFunc
	moved  bool
}

// Read implements io.Reader. A stall looks like a connection that was cut, if
// anything came before; so the library goes on at the same byte.
func (w *watched) Read(p []byte) (int, error) {
	stall := time.AfterFunc(stallAfter, w.cancel)
	n, err := w.ReadCloser.Read(p)
	idle := !stall.Stop()
	w.moved = w.moved || n > 0
	if err == nil || !idle || !errors.Is(err, context.Canceled) || w.outer.Err() != nil {
		return n, err
	}
	if w.moved {
		return n, io.ErrUnexpectedEOF
	}
	return n, errStalled
}

// Close implements io.Closer.
func (w *watched) Close() error {
	w.cancel()
	return w.ReadCloser.Close()
}
