package registry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/image"
	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/tests/images"
)

// realRegistry runs Debian's docker-registry on a unix socket, behind a port that
// is ours from the beginning: one that was free a moment ago may be anybody's.
func realRegistry(t *testing.T) string {
	t.Helper()
	bin, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Skip("docker-registry is not installed")
	}
	dir := t.TempDir()
	socket, path := filepath.Join(dir, "socket"), filepath.Join(dir, "config.yml")
	config := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage:\n  filesystem: {rootdirectory: %s}\nhttp: {net: unix, addr: %s, relativeurls: true}\n", filepath.Join(dir, "data"), socket)
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "serve", path)
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end := func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
	t.Cleanup(end)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("unix", socket); err == nil {
			c.Close()
			break
		} else if time.Now().After(deadline) {
			end()
			t.Fatalf("the registry does not listen: %v\n%s", err, log.Bytes())
		}
	}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "registry"})
	proxy.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	s := httptest.NewServer(proxy)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// TestRoundTrip pushes to a real registry and pulls back: the same image.
// A second push sends nothing, and another repository mounts the layers.
func TestRoundTrip(t *testing.T) {
	addr := realRegistry(t)
	from := testLayout(t)
	images := image.Open(from)
	name := addr + "/shop/web:v1"
	img, err := images.Import(t.Context(), bytes.NewReader(tarOf(t, "app", noise(3<<20, 1))), name, []string{"CMD /app"})
	if err != nil {
		t.Fatal(err)
	}
	statuses := map[string]int{}
	c := client(t, from, Options{Progress: func(p Progress) { statuses[p.Status]++ }})
	d, err := c.Push(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if statuses["Pushed"] != 1 {
		t.Errorf("statuses of a push: %v", statuses)
	}
	clear(statuses)
	again, err := c.Push(t.Context(), name)
	if err != nil || again != d {
		t.Errorf("pushed again: %s (%v), want %s", again, err, d)
	}
	if statuses["Layer already exists"] != 1 || statuses["Pushing"] != 0 {
		t.Errorf("statuses of a second push: %v", statuses)
	}
	to := testLayout(t)
	for _, ref := range []string{name, addr + "/shop/web@" + d} {
		p, err := client(t, to, Options{}).Pull(t.Context(), ref, "")
		if err != nil || p.Image.ID != img.ID || p.Digest != d {
			t.Errorf("pulled %s: %+v (%v), want %s", ref, p, err, img.ID)
		}
	}
	nothingLeft(t, from)
	nothingLeft(t, to)
	checkMissing(t, addr)
	checkSkopeo(t, addr, img.ID)
}

func checkMissing(t *testing.T, addr string) {
	t.Helper()
	_, err := client(t, testLayout(t), Options{}).Pull(t.Context(), addr+"/shop/none:v1", "")
	if err == nil || !strings.Contains(err.Error(), "no such image") {
		t.Errorf("a missing image: %v", err)
	}
}

// checkSkopeo has another tool read what we pushed.
func checkSkopeo(t *testing.T, addr, id string) {
	t.Helper()
	if _, err := exec.LookPath("skopeo"); err != nil {
		t.Log("skopeo is not installed")
		return
	}
	out, err := exec.Command("skopeo", "inspect", "--tls-verify=false", "--raw", "docker://"+addr+"/shop/web:v1").CombinedOutput()
	if err != nil || !strings.Contains(string(out), id) {
		t.Errorf("skopeo says %s (%v)", out, err)
	}
}

// counted puts a counter of requests, by method, in front of a registry.
func counted(t *testing.T, addr string) (host string, count func() map[string]int) {
	t.Helper()
	var mu sync.Mutex
	n := map[string]int{}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: addr})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		what := r.Method
		if r.URL.Query().Has("mount") {
			what = "mount"
		}
		n[what]++
		mu.Unlock()
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://"), func() map[string]int {
		mu.Lock()
		defer mu.Unlock()
		seen := n
		n = map[string]int{}
		return seen
	}
}

// TestRoundTripOfImages sends the images that tests stand on to a real
// registry and takes them back into an empty store: the same ids, and layers
// whose files have the digests that they had. What the registry has is not
// sent again, and another repository is given the layers without sending.
func TestRoundTripOfImages(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("the images have files of other owners: sudo go test …")
	}
	names := []string{"busybox"}
	if os.Getenv("DAVIT_LONG") != "" {
		names = nil // all
	}
	host, count := counted(t, realRegistry(t))
	cache, all, err := images.Ready(t.Context(), t.Output(), names...)
	if err != nil {
		t.Fatal(err)
	}
	for _, im := range all {
		var archive bytes.Buffer
		if err := cache.WriteArchive(&archive, im); err != nil {
			t.Fatal(err)
		}
		from, to := testLayout(t), testLayout(t)
		got, err := image.Open(from).Load(t.Context(), &archive)
		if err != nil {
			t.Fatal(err)
		}
		first, second := host+"/first/"+im.Name+":1", host+"/second/"+im.Name+":1"
		sentOnce(t, from, got[0], first, second, count)
		p, err := client(t, to, Options{}).Pull(t.Context(), second, "")
		if err != nil || p.Image.ID != got[0].ID {
			t.Errorf("%s came back as %s (%v), want %s", im.Name, p.Image.ID, err, got[0].ID)
			continue
		}
		layers := image.Open(to).Layers()
		for _, id := range p.Image.Layers {
			if err := layers.Tar(t.Context(), id, io.Discard); err != nil { // it compares the digest
				t.Errorf("%s: layer %s: %v", im.Name, id, err)
			}
		}
	}
}

// sentOnce pushes an image under two names, the first one twice, and counts
// what that makes the client send.
func sentOnce(t *testing.T, l store.Layout, img engine.Image, first, second string, count func() map[string]int) {
	t.Helper()
	s := image.Open(l)
	layers := len(img.Layers)
	for _, name := range []string{first, second} {
		if err := s.Tag(img.ID, name); err != nil {
			t.Fatal(err)
		}
	}
	push := func(name string) map[string]int {
		t.Helper()
		count()
		if _, err := client(t, l, Options{}).Push(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		return count()
	}
	if n := push(first); n["PUT"] < layers+1 { // and the manifest
		t.Errorf("%s: a first push made %v requests", first, n)
	}
	if n := push(first); n["PUT"]+n["POST"]+n["PATCH"]+n["mount"] > 0 {
		t.Errorf("%s: a second push made %v requests", first, n)
	}
	// Layers are mounted; the manifest, and the configuration if it is not
	// taken from there too, are sent.
	if n := push(second); n["mount"] < layers || n["PUT"] > 2 {
		t.Errorf("%s: a push into another repository made %v requests, of %d layers", second, n, layers)
	}
}
