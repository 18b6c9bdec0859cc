package compose

import (
	"context"
	"os"
	"path/filepath"
	"testing"
)

// write makes a directory with the given files and returns it.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestLoadTakesWhatTheFilesSay(t *testing.T) {
	dir := write(t, map[string]string{
		"compose.yaml":          "name: shop\nservices:\n  web:\n    image: nginx:${TAG}\n    ports: ['8080:80']\n    depends_on: [db]\n    environment: {A: 1}\n  db:\n    image: pg\n    volumes: ['data:/d']\nvolumes:\n  data:\n  unused:\n",
		"compose.override.yaml": "services:\n  web:\n    environment: {B: x}\n",
		".env":                  "TAG=3\n",
	})
	p, warns, err := Load(context.Background(), Options{WorkingDir: dir, Environ: []string{}})
	if err != nil {
		t.Fatal(err)
	}
	if len(warns) != 0 {
		t.Errorf("warnings: %v", warns)
	}
	web := p.Services["web"]
	if p.Name != "shop" || web.Image != "nginx:3" || web.Ports[0].Published != "8080" || *web.Environment["B"] != "x" {
		t.Errorf("got %+v", web)
	}
	if web.Networks["default"] != nil || len(p.Networks) != 1 || p.Networks["default"].Name != "shop_default" {
		t.Errorf("networks %+v", p.Networks)
	}
	if p.Volumes["unused"] != nil || p.Volumes["data"].Name != "shop_data" {
		t.Errorf("volumes %+v", p.Volumes)
	}
}
