package registry

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/davit-run/davit/engine/image"
)

const (
	testType   = "application/vnd.test.thing"
	testConfig = "application/vnd.test.config.v1+json"
)

func thing() Artifact {
	return Artifact{Type: testType, Parts: []Part{
		{MediaType: "text/plain", Annotations: map[string]string{"name": "one"}, Content: []byte("first\n")},
		{MediaType: "text/plain", Annotations: map[string]string{"name": "two"}, Content: []byte("second\n")},
	}}
}

// TestArtifactRoundTrip sends files to a real registry in both forms and gets
// the same ones back; an image is none, and bounds hold.
func TestArtifactRoundTrip(t *testing.T) {
	addr := realRegistry(t)
	l := testLayout(t)
	c := client(t, l, Options{})
	most := Bounds{Parts: 2, Bytes: 13}
	for _, version := range []string{"", "1.0", "1.1"} {
		ref := addr + "/team/thing:v" + version
		d, err := c.PushArtifact(t.Context(), ref, thing(), testConfig, version)
		if err != nil {
			t.Fatal(err)
		}
		a, err := c.Artifact(t.Context(), ref, testType, testConfig, most)
		if err != nil {
			t.Fatal(err)
		}
		if a.Digest != d || len(a.Parts) != 2 || string(a.Parts[1].Content) != "second\n" || a.Parts[0].Annotations["name"] != "one" {
			t.Errorf("version %q came back as %+v", version, a)
		}
		for _, less := range []Bounds{{Parts: 1, Bytes: 13}, {Parts: 2, Bytes: 12}} {
			if _, err := c.Artifact(t.Context(), ref, testType, testConfig, less); err == nil || !strings.Contains(err.Error(), "at most") {
				t.Errorf("%+v: %v", less, err)
			}
		}
		if _, err := c.Artifact(t.Context(), ref, "application/vnd.other", "application/vnd.other.config", most); err == nil || !strings.Contains(err.Error(), "not of the type") {
			t.Errorf("of another type: %v", err)
		}
	}
}

// TestArtifactForAnOldRegistry has a registry refuse what image-spec v1.1
// brought: the artefact is sent in the form of v1.0, unless 1.1 is asked for.
func TestArtifactForAnOldRegistry(t *testing.T) {
	target, err := url.Parse("http://" + realRegistry(t))
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	old := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/manifests/") {
			body, err := io.ReadAll(r.Body)
			if err != nil || bytes.Contains(body, []byte("artifactType")) {
				w.WriteHeader(http.StatusBadRequest)
				return
			}
			r.Body = io.NopCloser(bytes.NewReader(body))
		}
		proxy.ServeHTTP(w, r)
	}))
	defer old.Close()
	c := client(t, testLayout(t), Options{})
	ref := strings.TrimPrefix(old.URL, "http://") + "/team/thing:v1"
	if _, err := c.PushArtifact(t.Context(), ref, thing(), testConfig, "1.1"); err == nil {
		t.Error("the registry took v1.1")
	}
	if _, err := c.PushArtifact(t.Context(), ref, thing(), testConfig, ""); err != nil {
		t.Fatal(err)
	}
	if a, err := c.Artifact(t.Context(), ref, testType, testConfig, Bounds{Parts: 2, Bytes: 100}); err != nil || len(a.Parts) != 2 {
		t.Errorf("%+v, %v", a, err)
	}
}

// TestApplication copies an image into the artefact's repository: it can be
// pulled from there, and the index tells all.
func TestApplication(t *testing.T) {
	addr := realRegistry(t)
	l := testLayout(t)
	name := addr + "/base/web:v1"
	if _, err := image.Open(l).Import(t.Context(), bytes.NewReader(tarOf(t, "app", noise(1<<20, 1))), name, nil); err != nil {
		t.Fatal(err)
	}
	c := client(t, l, Options{})
	pushed, err := c.Push(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	ref := addr + "/team/thing:v1"
	d, err := c.PushArtifact(t.Context(), ref, thing(), testConfig, "")
	if err != nil {
		t.Fatal(err)
	}
	index, err := c.PushApplication(t.Context(), ref, d, []string{name})
	if err != nil {
		t.Fatal(err)
	}
	other := client(t, testLayout(t), Options{})
	if _, err := other.Pull(t.Context(), addr+"/team/thing@"+pushed, ""); err != nil {
		t.Error(err)
	}
	if _, err := other.Pull(t.Context(), addr+"/team/thing@"+index, ""); err != nil && !strings.Contains(err.Error(), "platform") {
		t.Error(err)
	}
	if got, err := other.Digest(t.Context(), addr+"/team/thing@"+index); err != nil || got != index {
		t.Errorf("the index is not there: %s, %v", got, err)
	}
}

// TestArtifactFaults has a registry send other bytes than the manifest names.
func TestArtifactFaults(t *testing.T) {
	f := newFaulty(t)
	good := f.add([]byte("first\n"), "")
	wrong := f.add([]byte("other\n"), "")
	f.blobs[wrong.Digest] = []byte("third\n")
	config := f.add([]byte("{}"), "")
	config.MediaType = testConfig
	for says, layer := range map[string]image.Descriptor{"": good, "what the registry sent has the digest": wrong} {
		m := f.add(asJSON(t, image.Manifest{SchemaVersion: 2, MediaType: image.TypeManifest, Config: &config, Layers: []image.Descriptor{layer}}), image.TypeManifest)
		_, err := client(t, testLayout(t), Options{}).Artifact(t.Context(), f.host()+"/x@"+m.Digest, testType, testConfig, Bounds{Parts: 1, Bytes: 100})
		if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", says, err)
		}
	}
}
