package registry

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/davit-run/davit/engine/image"
)

// fakeDocker answers on a unix socket as a Docker engine does. It stands in
// for a real one, which is not to be had where these tests run; what it sends
// is in the format of docker save since Docker 29 (an OCI layout that has a
// manifest.json), whose older forms the tests of package image read.
func fakeDocker(t *testing.T, archive []byte, cut int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "docker.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /images/get", func(w http.ResponseWriter, r *http.Request) {
		for _, name := range r.URL.Query()["names"] {
			if name != "shop/web:v1" && name != "other:2" {
				w.WriteHeader(http.StatusNotFound)
				_, _ = io.WriteString(w, `{"message":"No such image: `+name+`"}`)
				return
			}
		}
		w.Header().Set("Content-Type", "application/x-tar")
		_, _ = w.Write(archive[:len(archive)-cut])
		if cut > 0 {
			abort(w)
		}
	})
	s := httptest.NewUnstartedServer(mux)
	s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
	return path
}

// TestLoadFromDocker takes images out of an engine that speaks Docker's API.
func TestLoadFromDocker(t *testing.T) {
	from := image.Open(testLayout(t))
	img, err := from.Import(t.Context(), bytes.NewReader(tarOf(t, "app", noise(3<<20, 1))), "shop/web:v1", nil)
	if err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := from.Save(t.Context(), &archive, "shop/web:v1"); err != nil {
		t.Fatal(err)
	}
	socket := fakeDocker(t, archive.Bytes(), 0)
	for _, names := range [][]string{{"shop/web:v1"}, {"shop/web:v1", "other:2"}} {
		to := image.Open(testLayout(t))
		d, err := FindDocker("unix://" + socket)
		if err != nil {
			t.Fatal(err)
		}
		body, err := d.Save(t.Context(), names...)
		if err != nil {
			t.Fatal(err)
		}
		got, err := to.Load(t.Context(), body)
		body.Close()
		if err != nil || len(got) != 1 || got[0].ID != img.ID || got[0].Names[0] != "docker.io/shop/web:v1" {
			t.Errorf("loaded %+v (%v), want %s", got, err, img.ID)
		}
	}
	d, err := FindDocker("unix://" + socket)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Save(t.Context(), "none:1"); err == nil || !strings.Contains(err.Error(), "No such image: none:1") {
		t.Errorf("an image that is not there: %v", err)
	}
}

// TestDockerIsCutOff: an engine that dies in the middle leaves nothing here.
func TestDockerIsCutOff(t *testing.T) {
	var archive bytes.Buffer
	from := image.Open(testLayout(t))
	if _, err := from.Import(t.Context(), bytes.NewReader(tarOf(t, "app", noise(1<<20, 1))), "shop/web:v1", nil); err != nil {
		t.Fatal(err)
	}
	if err := from.Save(t.Context(), &archive, "shop/web:v1"); err != nil {
		t.Fatal(err)
	}
	d, err := FindDocker("unix://" + fakeDocker(t, archive.Bytes(), 200_000))
	if err != nil {
		t.Fatal(err)
	}
	body, err := d.Save(t.Context(), "shop/web:v1")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	l := testLayout(t)
	if _, err := image.Open(l).Load(t.Context(), body); err == nil {
		t.Error("half an archive was loaded")
	}
	if all, _ := image.Open(l).List(); len(all) > 0 {
		t.Errorf("images: %v", all)
	}
	nothingLeft(t, l)
}

func TestNoDocker(t *testing.T) {
	for host, want := range map[string]string{
		"tcp://127.0.0.1:2375":   "only one on this host",
		"unix://":                "only one on this host",
		"unix:///nowhere/d.sock": "no Docker engine listens at /nowhere/d.sock",
	} {
		d, err := FindDocker(host)
		if err == nil {
			_, err = d.Save(t.Context(), "redis")
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error is %v, want one about %q", host, err, want)
		}
	}
}
