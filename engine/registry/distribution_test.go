package registry

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/davit-run/davit/engine/image"
)

// realRegistry runs Debian's docker-registry on loopback.
func realRegistry(t *testing.T) string {
	t.Helper()
	bin, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Skip("docker-registry is not installed")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	dir := t.TempDir()
	config := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage:\n  filesystem: {rootdirectory: %s}\nhttp: {addr: %s}\n", filepath.Join(dir, "data"), addr)
	path := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "serve", path)
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for deadline := time.Now().Add(10 * time.Second); ; {
		resp, err := http.Get("http://" + addr + "/v2/")
		if err == nil {
			resp.Body.Close()
			return addr
		}
		if time.Now().After(deadline) {
			t.Fatalf("the registry does not answer: %v\n%s", err, log.Bytes())
		}
		time.Sleep(10 * time.Millisecond)
	}
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
