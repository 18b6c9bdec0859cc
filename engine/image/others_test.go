package image

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/davit-run/davit/engine"
)

// saved is an image of ours, and the archive that Save makes of it.
func saved(t *testing.T) (engine.Image, string) {
	t.Helper()
	s := testStore(t)
	img := load(t, s, ociArchive(t, "docker.io/library/shop:v1", zip))
	f, err := os.Create(filepath.Join(t.TempDir(), "saved.tar"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Save(t.Context(), f, "shop:v1"), f.Close()); err != nil {
		t.Fatal(err)
	}
	return img, f.Name()
}

// comesBack loads another tool's archive into an empty store: it must be the
// same image, its layers of the same digests, under its name.
func comesBack(t *testing.T, file string, want engine.Image) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := testStore(t)
	images, err := s.Load(t.Context(), f)
	if err != nil || images[0].ID != want.ID || strings.Join(images[0].DiffIDs, " ") != strings.Join(want.DiffIDs, " ") {
		t.Errorf("%s came back as %v (%v), want %s", filepath.Base(file), images, err, want.ID)
	}
	if _, err := s.Resolve("shop:v1"); err != nil {
		t.Errorf("%s: %v", filepath.Base(file), err)
	}
}

// TestSkopeo has another tool read what we save, and write what we load.
func TestSkopeo(t *testing.T) {
	if _, err := exec.LookPath("skopeo"); err != nil {
		t.Skip("skopeo is missing: apt-get install skopeo")
	}
	img, archive := saved(t)
	tmp := t.TempDir()
	for _, from := range []string{"docker-archive:", "oci-archive:"} {
		for _, to := range []string{"docker-archive:", "oci-archive:"} {
			file := filepath.Join(tmp, strings.ReplaceAll(from+to, ":", "-")+"tar")
			out, err := exec.Command("skopeo", "copy", "--insecure-policy", from+archive, to+file+":shop:v1").CombinedOutput()
			if err != nil {
				t.Fatalf("skopeo copy %s %s: %v\n%s", from, to, err, out)
			}
			comesBack(t, file, img)
		}
	}
}

// TestPodman is TestSkopeo with podman's own store in between.
func TestPodman(t *testing.T) {
	if _, err := exec.LookPath("podman"); err != nil {
		t.Skip("podman is missing: apt-get install podman")
	}
	if os.Geteuid() != 0 {
		t.Skip("podman keeps images of other owners as the superuser alone")
	}
	img, archive := saved(t)
	tmp := t.TempDir()
	podman := func(args ...string) string {
		t.Helper()
		store := []string{"--root", filepath.Join(tmp, "root"), "--runroot", filepath.Join(tmp, "run"), "--storage-driver", "vfs"}
		out, err := exec.Command("podman", append(store, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("podman %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return strings.TrimSpace(string(out))
	}
	podman("load", "-i", archive)
	if id := "sha256:" + podman("image", "inspect", "--format", "{{.Id}}", "shop:v1"); id != img.ID {
		t.Errorf("podman has the image %s, want %s", id, img.ID)
	}
	for _, format := range []string{"docker-archive", "oci-archive"} {
		file := filepath.Join(tmp, format+".tar")
		podman("save", "--format", format, "-o", file, "docker.io/library/shop:v1")
		comesBack(t, file, img)
	}
}
