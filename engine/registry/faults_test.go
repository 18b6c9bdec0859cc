package registry

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// What became of a pull must be one of these.
const (
	right  = "the right image"
	wrong  = "a clean error"
	either = "the right image or a clean error"
)

// A fault is something that a registry does to one kind of request, times
// times (-1: for ever).
type fault struct {
	name  string
	on    string // what is asked for: see target
	times int
	do    func(w http.ResponseWriter, r *http.Request, body []byte)
	want  string
	// broken is another image's tag, one that is wrong by itself.
	broken string
}

// target says what a request asks for: "head", "index", "manifest", "config"
// or the number of a layer.
func (i *sweepImage) target(r *http.Request) string {
	if r.Method == http.MethodHead {
		return "head"
	}
	for what, d := range i.parts {
		if strings.HasSuffix(r.URL.Path, d) {
			return what
		}
	}
	return ""
}

// limited lets a fault happen so many times, and then no more.
func limited(times int) func() bool {
	var mu sync.Mutex
	return func() bool {
		mu.Lock()
		defer mu.Unlock()
		if times == 0 {
			return false
		}
		times--
		return true
	}
}

// abort ends the connection in the middle of a body.
func abort(w http.ResponseWriter) {
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
	panic(http.ErrAbortHandler)
}

// cutAt serves a body up to a byte and then cuts the connection. A server that
// knows ranges begins where it is asked to.
func cutAt(at int, ranges bool) func(http.ResponseWriter, *http.Request, []byte) {
	return func(w http.ResponseWriter, r *http.Request, body []byte) {
		from := 0
		if ranges {
			_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
		}
		from = min(from, len(body))
		w.Header().Set("Content-Length", strconv.Itoa(len(body)-from))
		if from > 0 {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(body)-1, len(body)))
			w.WriteHeader(http.StatusPartialContent)
		}
		_, _ = w.Write(body[from:max(from, min(at, len(body)))])
		abort(w)
	}
}

func answer(code int, header ...string) func(http.ResponseWriter, *http.Request, []byte) {
	return func(w http.ResponseWriter, _ *http.Request, _ []byte) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
	}
}

func serve(change func([]byte) []byte) func(http.ResponseWriter, *http.Request, []byte) {
	return func(w http.ResponseWriter, _ *http.Request, b []byte) { _, _ = w.Write(change(bytes.Clone(b))) }
}

// drip sends a body slowly: chunks of so many bytes, at most 40 of them, a
// moment apart; then it goes on at full speed, or, stalling, not at all.
func drip(size int, stalls bool) func(http.ResponseWriter, *http.Request, []byte) {
	return func(w http.ResponseWriter, r *http.Request, b []byte) {
		w.Header().Set("Content-Length", strconv.Itoa(len(b)))
		for range 40 {
			n := min(size, len(b))
			_, _ = w.Write(b[:n])
			w.(http.Flusher).Flush()
			b = b[n:]
			time.Sleep(100 * time.Microsecond)
		}
		if stalls {
			<-r.Context().Done()
			return
		}
		_, _ = w.Write(b)
	}
}

// faults are all that the sweep injects.
func (i *sweepImage) faults(elsewhere string) []fault {
	var all []fault
	all = append(all, i.cuts()...)
	all = append(all, statuses()...)
	all = append(all, contents()...)
	all = append(all, redirects(elsewhere)...)
	all = append(all, headers()...)
	return append(all, i.brokenLayers()...)
}

func (i *sweepImage) cuts() []fault {
	var all []fault
	for _, on := range []string{"0", "1", "manifest", "config"} {
		for at := 0; at < i.size(on); at += 64 << 10 {
			for _, times := range []int{1, 2, -1} {
				for _, ranges := range []bool{true, false} {
					f := fault{on: on, times: times, do: cutAt(max(at, 10), ranges), want: right}
					f.name = fmt.Sprintf("cut at %d, ranges %v", at, ranges)
					if times < 0 {
						f.want = wrong
					}
					all = append(all, f)
				}
			}
		}
	}
	return all
}

func statuses() []fault {
	var all []fault
	for _, code := range []int{400, 401, 403, 404, 408, 418, 429, 500, 502, 503, 504} {
		for _, on := range []string{"head", "index", "manifest", "config", "0"} {
			for _, times := range []int{1, 2, -1} {
				for _, after := range []string{"", "0", "Wed, 21 Oct 2015 07:28:00 GMT", "3600"} {
					if after != "" && code != 429 && code != 503 {
						continue
					}
					f := fault{name: fmt.Sprintf("status %d %s", code, after), on: on, times: times, do: answer(code, "Retry-After", after), want: either}
					if times < 0 {
						f.want = wrong
					} else if code == 429 || code >= 500 && times == 1 {
						f.want = right
					}
					all = append(all, f)
				}
			}
		}
	}
	return all
}

func contents() []fault {
	changes := map[string]func([]byte) []byte{
		"nothing":   func([]byte) []byte { return nil },
		"a page":    func([]byte) []byte { return []byte("<html>Please log in</html>") },
		"cut short": func(b []byte) []byte { return b[:len(b)/2] },
		"too long":  func(b []byte) []byte { return append(b, make([]byte, 10_000)...) },
		"endless":   func(b []byte) []byte { return append(b, make([]byte, 40<<20)...) },
		"other":     func([]byte) []byte { return []byte(`{"schemaVersion":2,"layers":[],"config":{}}`) },
	}
	for at := range 5 {
		changes[fmt.Sprintf("a flipped bit at %d/5", at)] = func(b []byte) []byte {
			b[len(b)*at/5] ^= 4
			return b
		}
	}
	var all []fault
	for name, change := range changes {
		for _, on := range []string{"index", "manifest", "config", "0", "1"} {
			// The digest tells, and what was wrong once is right when it is
			// fetched again.
			all = append(all, fault{name: name, on: on, times: 1, do: serve(change), want: right},
				fault{name: name, on: on, times: -1, do: serve(change), want: wrong})
		}
	}
	for _, on := range []string{"manifest", "config", "0", "1"} {
		for _, size := range []int{1, 100, 1000, 4096} {
			all = append(all, fault{name: fmt.Sprintf("slow drip of %d", size), on: on, times: -1, do: drip(size, false), want: right})
		}
		all = append(all, fault{name: "stall", on: on, times: 1, do: drip(3, true), want: right},
			fault{name: "stall", on: on, times: -1, do: drip(3, true), want: wrong})
	}
	return all
}

// redirects send the client to another host, which does what its path says.
func redirects(elsewhere string) []fault {
	var all []fault
	for _, code := range []int{301, 302, 303, 307, 308} {
		for _, on := range []string{"index", "config", "0"} {
			for _, there := range []string{"good", "flipped", "missing", "basic", "bearer", "broken", "cut", "loop", "nowhere"} {
				do := func(w http.ResponseWriter, r *http.Request, _ []byte) {
					http.Redirect(w, r, elsewhere+"/"+there+r.URL.Path, code)
				}
				f := fault{name: fmt.Sprintf("redirect %d to %s", code, there), on: on, times: -1, do: do, want: wrong}
				if there == "good" {
					f.want = right
				}
				all = append(all, f)
			}
		}
	}
	return all
}

// headers lie about bodies that are right.
func headers() []fault {
	lie := func(key, value string) func(http.ResponseWriter, *http.Request, []byte) {
		return func(w http.ResponseWriter, _ *http.Request, b []byte) {
			w.Header().Set(key, value)
			_, _ = w.Write(b)
		}
	}
	var all []fault
	for _, on := range []string{"index", "manifest", "config", "0"} {
		for _, h := range [][2]string{
			{"Docker-Content-Digest", sha([]byte("lie"))}, {"Docker-Content-Digest", "sha256:../../etc"},
			{"Content-Type", "text/html"}, {"Content-Range", "bytes 5-9/10"},
			{"Content-Encoding", "gzip"}, {"Content-Encoding", "zstd"}, {"Content-Encoding", "xz"}, {"Content-Length", "7"},
			{"Transfer-Encoding", "chunked"}, {"Connection", "close"},
		} {
			all = append(all, fault{name: h[0] + ": " + h[1], on: on, times: -1, do: lie(h[0], h[1]), want: either})
		}
	}
	return all
}
