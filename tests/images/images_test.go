package images

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func busybox(t *testing.T) (*Cache, Image) {
	t.Helper()
	c, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ims, err := Find("busybox")
	if err != nil {
		t.Fatal(err)
	}
	return c, ims[0]
}

func TestASecondMakeFindsNothingToDo(t *testing.T) {
	c, im := busybox(t)
	for i, want := range []bool{true, false} {
		var out strings.Builder
		if err := c.Make(t.Context(), &out, im); err != nil {
			t.Fatal(err)
		}
		if made := strings.Contains(out.String(), "made in"); made != want {
			t.Errorf("run %d printed %q", i, out.String())
		}
	}
}

func TestADamagedLayerIsMadeAgain(t *testing.T) {
	c, im := busybox(t)
	if err := c.Make(t.Context(), io.Discard, im); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(c.tar("busybox"))
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(c.tar("busybox"), b, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := c.check(im); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("a flipped bit was not seen: %v", err)
	}
	if err := c.Make(t.Context(), io.Discard, im); err != nil {
		t.Fatal(err)
	}
	if _, err := c.check(im); err != nil {
		t.Errorf("after making it again: %v", err)
	}
}

func TestAnArchiveIsWhatDockerSaves(t *testing.T) {
	c, im := busybox(t)
	if err := c.Make(t.Context(), io.Discard, im); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := c.WriteArchive(&b, im); err != nil {
		t.Fatal(err)
	}
	members := map[string][]byte{}
	for r := tar.NewReader(&b); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		members[h.Name], err = io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
	}
	var ms []manifest
	if err := json.Unmarshal(members["manifest.json"], &ms); err != nil || len(ms) != 1 {
		t.Fatalf("manifest.json: %v: %s", err, members["manifest.json"])
	}
	var conf config
	if err := json.Unmarshal(members[ms[0].Config], &conf); err != nil {
		t.Fatal(err)
	}
	id, err := c.ID(im)
	if err != nil || id != "sha256:"+strings.TrimSuffix(ms[0].Config, ".json") {
		t.Errorf("id %s, %v: want that of %s", id, err, ms[0].Config)
	}
	if got := "sha256:" + digest(members[ms[0].Layers[0]]); got != conf.RootFS.DiffIDs[0] {
		t.Errorf("layer has digest %s, the configuration says %s", got, conf.RootFS.DiffIDs[0])
	}
}

func TestALayerKeepsLinksAndWhiteouts(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("text"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(dir, "a"), filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a", filepath.Join(dir, "c")); err != nil {
		t.Fatal(err)
	}
	want := []string{"a 0 ", "b 1 a", "c 2 a"}
	if os.Geteuid() == 0 {
		if err := unix.Mknod(filepath.Join(dir, "gone"), unix.S_IFCHR, 0); err != nil {
			t.Fatal(err)
		}
		want = append(want, ".wh.gone 0 ")
	}
	path := filepath.Join(t.TempDir(), "layer.tar")
	if _, err := writeLayer(path, dir); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var got []string
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, h.Name+" "+string(h.Typeflag)+" "+h.Linkname)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestMirrorsAreThoseOfTheHost(t *testing.T) {
	for name, text := range map[string]string{
		"one line": "# comment\ndeb [signed-by=/x] http://near/debian bookworm main contrib\n" +
			"deb http://near/security bookworm-security main\ndeb http://other/x bookworm x\n",
		"deb822": "Types: deb\nURIs: http://near/debian\nSuites: bookworm bookworm-updates\nComponents: main\n\n" +
			"Types: deb\nURIs: http://near/security\nSuites: bookworm-security\nComponents: main\n",
		"another release": "deb http://far/debian sid main\n",
	} {
		s := source{uri: "http://default/debian", security: "http://default/security"}
		s.learn(text)
		want := "near"
		if name == "another release" {
			want = "default"
		}
		if s.uri != "http://"+want+"/debian" || s.security != "http://"+want+"/security" {
			t.Errorf("%s: %+v", name, s)
		}
	}
}
