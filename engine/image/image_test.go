package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/davit-run/davit/engine"
)

func TestLoad(t *testing.T) {
	for name, b := range archives(t) {
		for how, r := range map[string]io.Reader{"stream": bytes.NewReader(b), "file": asFile(t, b)} {
			t.Run(name+" as a "+how, func(t *testing.T) {
				s := testStore(t)
				images, err := s.Load(t.Context(), r)
				if err != nil {
					t.Fatal(err)
				}
				img, err := s.Resolve("shop:v1")
				if err != nil {
					t.Fatal(err)
				}
				if len(images) != 1 || images[0].ID != img.ID || img.Config.Cmd[0] != "/app" || img.Size < 250_005 {
					t.Errorf("loaded %+v", images)
				}
				if img.Config.Labels["io.davit.x"] != "" {
					t.Error("an image set a label of davit's own")
				}
				got, err := os.ReadFile(filepath.Join(s.layers.FS(img.Layers[1]), "app"))
				if err != nil || string(got) != app.body {
					t.Errorf("app has %d bytes (%v)", len(got), err)
				}
				nothingLeft(t, s)
			})
		}
	}
}

func nothingLeft(t *testing.T, s *Store) {
	t.Helper()
	left, err := os.ReadDir(s.layout.Ingest())
	if err != nil && !errors.Is(err, os.ErrNotExist) || len(left) > 0 {
		t.Errorf("left in the ingest directory: %v (%v)", left, err)
	}
}

// TestLoadCut cuts each archive at many places: a clear error, and nothing
// changed.
func TestLoadCut(t *testing.T) {
	for name, b := range archives(t) {
		for i := 1; i < 12; i++ {
			at := len(b) * i / 12
			for how, r := range map[string]io.Reader{"stream": bytes.NewReader(b[:at]), "file": asFile(t, b[:at])} {
				s := testStore(t)
				_, err := s.Load(t.Context(), r)
				if err == nil {
					t.Errorf("%s as a %s, cut at %d of %d: no error", name, how, at, len(b))
				}
				if all, _ := s.List(); len(all) > 0 {
					t.Errorf("%s as a %s, cut at %d: images %v", name, how, at, all)
				}
				nothingLeft(t, s)
			}
		}
	}
}

func TestLoadRefuses(t *testing.T) {
	one := tarOf(t, base)
	config := configOf(t, one)
	entries := func(manifest string, more ...entry) []byte {
		return tarOf(t, append(more, entry{"manifest.json", manifest})...)
	}
	good := `[{"Config":"c.json","RepoTags":["x:1"],"Layers":["l.tar"]}]`
	for name, c := range map[string]struct {
		b    []byte
		want string
	}{
		"a root file system":    {tarOf(t, base), "davit image import"},
		"no archive":            {bytes.Repeat([]byte("hello "), 1000), "not a tar archive"},
		"nothing":               {nil, "neither manifest.json"},
		"xz":                    {append([]byte("\xfd7zXZ\x00"), one...), "xz"},
		"missing configuration": {entries(good, entry{"l.tar", string(one)}), `"c.json" is missing`},
		"missing layer":         {entries(good, entry{"c.json", string(config)}), `layer "l.tar" is missing`},
		"other layer":           {entries(good, entry{"c.json", string(config)}, entry{"l.tar", string(tarOf(t, app))}), "the archive is damaged"},
		"too few layers":        {entries(`[{"Config":"c.json","Layers":[]}]`, entry{"c.json", string(config)}), "1 layers, the archive 0"},
		"configuration's name":  {entries(strings.Replace(good, "c.json", strings.Repeat("a", 64)+".json", 1), entry{strings.Repeat("a", 64) + ".json", string(config)}, entry{"l.tar", string(one)}), "damaged"},
		"no JSON":               {entries("{", entry{"c.json", string(config)}), "manifest.json"},
		"hostile diff id":       {entries(good, entry{"c.json", `{"rootfs":{"diff_ids":["sha256:../../x"]}}`}, entry{"l.tar", string(one)}), "not a sha256 digest"},
		"Windows":               {entries(good, entry{"c.json", `{"os":"windows","rootfs":{"diff_ids":["sha256:` + sha(one) + `"]}}`}, entry{"l.tar", string(one)}), "not for Linux"},
		"circle of parents":     {tarOf(t, entry{"a/json", `{"parent":"b"}`}, entry{"b/json", `{"parent":"a"}`}, entry{"repositories", `{"x":{"1":"a"}}`}), "circle"},
		"bad name":              {entries(strings.Replace(good, "x:1", "X Y", 1), entry{"c.json", string(config)}, entry{"l.tar", string(one)}), "invalid reference"},
	} {
		t.Run(name, func(t *testing.T) {
			for _, r := range []io.Reader{bytes.NewReader(c.b), asFile(t, c.b)} {
				s := testStore(t)
				_, err := s.Load(t.Context(), r)
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("error is %v, want one about %q", err, c.want)
				}
				if all, _ := s.List(); len(all) > 0 {
					t.Errorf("images after an error: %v", all)
				}
				nothingLeft(t, s)
			}
		})
	}
}

func load(t *testing.T, s *Store, b []byte) engine.Image {
	t.Helper()
	images, err := s.Load(t.Context(), bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	return images[0]
}

func TestNames(t *testing.T) {
	s := testStore(t)
	img := load(t, s, ociArchive(t, "docker.io/library/shop:v1", zip))
	other := load(t, s, linkedArchive(t, "registry.example:5000/a/b:2"))
	for _, ref := range []string{"shop:v1", "docker.io/shop:v1", "docker.io/library/shop:v1", img.ID, strings.TrimPrefix(img.ID, "sha256:"),
		img.ID[7:19], img.ID[:19], "shop@" + img.Digest, "shop:v1@" + img.Digest, "shop:whatever@" + img.Digest} {
		if got, err := s.Resolve(ref); err != nil || got.ID != img.ID {
			t.Errorf("%s means %s (%v)", ref, got.ID, err)
		}
	}
	for _, ref := range []string{"shop", "shop:v2", "other/shop:v1", "registry.example/a/b:2", "0000000", "shop@sha256:" + strings.Repeat("0", 64), strings.Repeat("0", 64)} {
		if got, err := s.Resolve(ref); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s means %s (%v)", ref, got.ID, err)
		}
	}
	if _, err := s.Resolve("Not A Name"); err == nil {
		t.Error("a name with blanks and capitals passes")
	}
	if err := s.Tag("registry.example:5000/a/b:2", "shop:v1"); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Resolve("shop:v1"); err != nil || got.ID != other.ID || len(got.Names) != 2 {
		t.Errorf("after tagging: %s with %v (%v)", got.ID, got.Names, err)
	}
	all, err := s.List()
	if err != nil || len(all) != 2 {
		t.Errorf("%d images (%v), want 2", len(all), err)
	}
	if got, err := s.Lookup("docker.io/library/shop:v1"); err != nil || got.ID != other.ID {
		t.Errorf("looked up %s (%v)", got.ID, err)
	}
}

func TestRemove(t *testing.T) {
	s := testStore(t)
	img := load(t, s, dockerArchive(t, "shop:v1"))
	if err := s.Tag("shop:v1", "shop:v2"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Remove(img.ID, false, nil); err == nil || !strings.Contains(err.Error(), "several names") {
		t.Errorf("removed by id with two names: %v", err)
	}
	busy := func(string) string { return "container shop-web-1" }
	if r, err := s.Remove("shop:v1", false, busy); err != nil || r.Deleted != "" || len(r.Untagged) != 1 {
		t.Errorf("one of two names: %+v, %v", r, err)
	}
	if _, err := s.Remove("shop:v2", false, busy); !errors.Is(err, ErrInUse) {
		t.Errorf("removed although used: %v", err)
	}
	if r, err := s.Remove("shop:v2", false, nil); err != nil || r.Deleted != img.ID {
		t.Errorf("last name: %+v, %v", r, err)
	}
	if _, err := s.Resolve(img.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("still there: %v", err)
	}
	kept := map[string]bool{}
	if err := s.Kept(kept); err != nil || len(kept) != 0 {
		t.Errorf("kept %v (%v)", kept, err)
	}
}

func TestImport(t *testing.T) {
	s := testStore(t)
	img, err := s.Import(t.Context(), bytes.NewReader(zip(t, tarOf(t, base))), "mine", []string{
		`CMD ["/bin/sh", "-l"]`, `entrypoint exec`, `ENV A=1 B="two words" C=it\ is`, `ENV OLD form here`, `ENV A=2`, `EXPOSE 80 53/udp`,
		`LABEL x=y`, `USER 5:6`, `VOLUME ["/data"]`, `VOLUME /a /b`, `WORKDIR /w`, `STOPSIGNAL SIGINT`,
		`HEALTHCHECK --interval=5s --retries=2 CMD curl localhost`})
	if err != nil {
		t.Fatal(err)
	}
	got, _ := json.Marshal(img.Config)
	want := `{"User":"5:6","ExposedPorts":{"53/udp":{},"80/tcp":{}},"Env":["A=2","B=two words","C=it is","OLD=form here"],` +
		`"Entrypoint":["/bin/sh","-c","exec"],"Cmd":["/bin/sh","-l"],"Volumes":{"/a":{},"/b":{},"/data":{}},"WorkingDir":"/w",` +
		`"Labels":{"x":"y"},"StopSignal":"SIGINT","Healthcheck":{"Test":["CMD-SHELL","curl localhost"],"Interval":5000000000,"Retries":2}}`
	if string(got) != want {
		t.Errorf("configuration is\n%s, want\n%s", got, want)
	}
	if r, err := s.Resolve("mine"); err != nil || r.ID != img.ID || r.Names[0] != "docker.io/library/mine:latest" {
		t.Errorf("resolved %+v (%v)", r, err)
	}
	for _, bad := range []string{"RUN x", "CMD", "ENV a b=", "EXPOSE http", `LABEL "x`, "HEALTHCHECK x"} {
		if err := Change(&engine.ImageConfig{}, []string{bad}); err == nil && bad != "ENV a b=" {
			t.Errorf("%s passes", bad)
		}
	}
}

// TestSaveGivesTheSameDigests: what was loaded is saved with its
// configuration's and layers' digests, twice with the same bytes.
func TestSaveGivesTheSameDigests(t *testing.T) {
	s := testStore(t)
	img := load(t, s, ociArchive(t, "docker.io/library/shop:v1", zip))
	var one, two bytes.Buffer
	if err := s.Save(t.Context(), &one, "shop:v1"); err != nil {
		t.Fatal(err)
	}
	if err := s.Save(t.Context(), &two, "shop:v1"); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Error("saved twice, the archives differ")
	}
	for how, r := range map[string]io.Reader{"stream": &one, "file": asFile(t, two.Bytes())} {
		again := testStore(t)
		images, err := again.Load(t.Context(), r)
		if err != nil || images[0].ID != img.ID {
			t.Fatalf("as a %s: %v (%v), want %s", how, images, err, img.ID)
		}
		if _, err := again.Resolve("shop:v1"); err != nil {
			t.Error(err)
		}
	}
}

// TestSaveBuilt: an image made of committed drafts gets its digests on save.
func TestSaveBuilt(t *testing.T) {
	s := testStore(t)
	d, err := s.layers.NewDraft()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.FS, "f"), []byte("built"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Commit("built-layer"); err != nil {
		t.Fatal(err)
	}
	config := []byte(`{"os":"linux","architecture":"amd64","config":{"Cmd":["/f"]},"history":[{"created_by":"COPY f /"},{"created_by":"CMD","empty_layer":true}]}`)
	img, err := Parse(config)
	if err != nil {
		t.Fatal(err)
	}
	img.ID, img.Layers = "", []string{"built-layer"}
	if img, err = s.Put(img, config, nil, "built"); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := s.Save(t.Context(), &out, "built"); err != nil {
		t.Fatal(err)
	}
	again := load(t, testStore(t), out.Bytes())
	if len(again.Layers) != 1 || len(again.History) != 2 || again.Config.Cmd[0] != "/f" {
		t.Errorf("came back as %+v", again)
	}
}
