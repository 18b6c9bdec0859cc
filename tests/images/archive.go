package images

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"time"

	"github.com/davit-run/davit/engine"
)

// config is an image's configuration as the OCI image specification has it.
type config struct {
	Created time.Time          `json:"created"`
	Arch    string             `json:"architecture"`
	OS      string             `json:"os"`
	Config  engine.ImageConfig `json:"config"`
	RootFS  struct {
		Type    string   `json:"type"`
		DiffIDs []string `json:"diff_ids"`
	} `json:"rootfs"`
	History []engine.History `json:"history"`
}

// manifest is an entry of a docker-archive's manifest.json.
type manifest struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// ID returns the id that the image has once loaded: sha256: and the digest of
// its configuration.
func (c *Cache) ID(im Image) (string, error) {
	b, _, err := c.config(im)
	return "sha256:" + digest(b), err
}

func digest(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// config returns an image's configuration and its layers, lowest first, by the
// names of their images.
func (c *Cache) config(im Image) ([]byte, []string, error) {
	names := []string{im.Name}
	if im.Base != "" {
		names = []string{im.Base, im.Name}
	}
	conf := config{Arch: runtime.GOARCH, OS: "linux", Config: im.Config}
	conf.RootFS.Type = "layers"
	for _, n := range names {
		l, err := c.read(n)
		if err != nil {
			return nil, nil, fmt.Errorf("image %s: %w", n, err)
		}
		conf.Created = l.Made
		conf.RootFS.DiffIDs = append(conf.RootFS.DiffIDs, "sha256:"+l.DiffID)
		conf.History = append(conf.History, engine.History{Created: l.Made, CreatedBy: "davit: recipe " + n})
	}
	b, err := json.Marshal(conf)
	return b, names, err
}

// WriteArchive writes the given images as one docker-archive, as docker save
// does; a layer that several share is in it once.
func (c *Cache) WriteArchive(w io.Writer, ims ...Image) error {
	t := tar.NewWriter(w)
	written := map[string]bool{}
	var manifests []manifest
	for _, im := range ims {
		conf, names, err := c.config(im)
		if err != nil {
			return err
		}
		m := manifest{Config: digest(conf) + ".json", RepoTags: im.Tags}
		for _, n := range names {
			l, err := c.read(n)
			if err != nil {
				return err
			}
			member := l.DiffID + "/layer.tar"
			m.Layers = append(m.Layers, member)
			if written[member] {
				continue
			}
			written[member] = true
			if err := addFile(t, member, c.tar(n)); err != nil {
				return fmt.Errorf("archive layer of %s: %w", n, err)
			}
		}
		if err := addBytes(t, m.Config, conf); err != nil {
			return err
		}
		manifests = append(manifests, m)
	}
	b, err := json.Marshal(manifests)
	if err != nil {
		return err
	}
	if err := addBytes(t, "manifest.json", b); err != nil {
		return err
	}
	return t.Close()
}

func addBytes(t *tar.Writer, name string, b []byte) error {
	if err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(b))}); err != nil {
		return err
	}
	_, err := t.Write(b)
	return err
}

func addFile(t *tar.Writer, name, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if err := t.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: st.Size()}); err != nil {
		return err
	}
	_, err = io.Copy(t, f)
	return err
}

// Layer writes the topmost layer of a cached image to a file as a tar: its
// entries in order, up to a number of bytes, but for the hard links. It returns
// how many bytes the file has.
func (c *Cache) Layer(name, path string, most int64) (int64, error) {
	in, err := os.Open(c.tar(name))
	if err != nil {
		return 0, fmt.Errorf("layer of %s: %w", name, err)
	}
	defer in.Close()
	out, err := os.Create(path)
	if err != nil {
		return 0, fmt.Errorf("layer of %s: %w", name, err)
	}
	defer out.Close()
	r, w := tar.NewReader(in), tar.NewWriter(out)
	for sum := int64(0); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return 0, fmt.Errorf("layer of %s: %w", name, err)
		}
		if sum += h.Size + 512; sum > most {
			break
		}
		if h.Typeflag == tar.TypeLink {
			continue
		}
		if err := w.WriteHeader(h); err != nil {
			return 0, fmt.Errorf("layer of %s: %w", name, err)
		}
		if _, err := io.Copy(w, r); err != nil {
			return 0, fmt.Errorf("layer of %s: %w", name, err)
		}
	}
	if err := w.Close(); err != nil {
		return 0, fmt.Errorf("layer of %s: %w", name, err)
	}
	return out.Seek(0, io.SeekCurrent)
}
