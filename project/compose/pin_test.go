package compose

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
)

const pinned = `services:
  web:
    image: nginx:1.27
    pre_start: [{image: busybox, command: "true"}]
    volumes: [{type: image, source: data, target: /d}]
  db: {image: "postgres@sha256:` + zeros + `"}
  built: {build: .}
  later: {image: "x:${TAG:-1}"}
`

const zeros = "0000000000000000000000000000000000000000000000000000000000000000"

// TestPin puts digests behind all images, each looked up once, and keeps tags;
// what is locked is an override file for the rest.
func TestPin(t *testing.T) {
	one := "sha256:" + strings.Repeat("1", 64)
	var mu sync.Mutex
	for _, c := range []struct {
		o      Options
		r      RenderOptions
		asked  int
		has    []string
		hasNot []string
	}{
		{asked: 4, has: []string{"nginx:1.27@" + one, "library/busybox:latest@" + one, "library/data:latest@" + one, "postgres@sha256:" + zeros, "library/x:1@" + one, "build:"}},
		{r: RenderOptions{Lock: true}, asked: 4, has: []string{"nginx:1.27@" + one, "source: docker.io/library/data:latest@" + one}, hasNot: []string{"busybox", "build:", "name:", "networks:"}},
		{o: Options{NoInterpolate: true}, asked: 3, has: []string{"nginx:1.27@" + one, "library/busybox:latest@" + one, "x:${TAG:-1}"}},
		{o: Options{NoInterpolate: true}, r: RenderOptions{Lock: true}, asked: 3, has: []string{"nginx:1.27@" + one, "x:${TAG:-1}", "library/data:latest@" + one}, hasNot: []string{"busybox", "build:", "networks:"}},
	} {
		asked := 0
		c.o.WorkingDir, c.o.Environ = write(t, map[string]string{"compose.yaml": pinned}), []string{}
		c.r.Format = "yaml"
		c.r.Digests = func(context.Context, string) (string, error) {
			mu.Lock()
			defer mu.Unlock()
			asked++
			return one, nil
		}
		out, warnings, err := Render(t.Context(), c.o, c.r)
		if err != nil {
			t.Fatal(err)
		}
		if asked != c.asked {
			t.Errorf("%+v: %d images were looked up, want %d", c.o, asked, c.asked)
		}
		text := strings.ReplaceAll(string(out), "$$", "$")
		for _, want := range c.has {
			if !strings.Contains(text, want) {
				t.Errorf("lock %v: no %s in\n%s", c.r.Lock, want, text)
			}
		}
		for _, no := range c.hasNot {
			if strings.Contains(text, no) {
				t.Errorf("lock %v: %s in\n%s", c.r.Lock, no, text)
			}
		}
		if c.r.Lock && (len(warnings) != 1 || !strings.Contains(warnings[0].String(), "services.web.pre_start: pre_start hook images are not pinned")) {
			t.Errorf("warnings %v", warnings)
		}
	}
	o := Options{WorkingDir: write(t, map[string]string{"compose.yaml": pinned}), Environ: []string{}}
	gone := RenderOptions{Format: "yaml", Digests: func(context.Context, string) (string, error) { return "", errors.New("gone") }}
	if _, _, err := Render(t.Context(), o, gone); err == nil || !strings.Contains(err.Error(), "find the digest of ") {
		t.Error(err)
	}
}
