package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestRecords(t *testing.T) {
	r := Layout{Data: t.TempDir(), Run: t.TempDir()}.Records()
	var got string
	if err := r.Read("networks/a/endpoints/x", &got); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("read what is not there: %v", err)
	}
	for _, key := range []string{"networks/a/endpoints/x", "networks/a/runtime"} {
		if err := r.Write(key, "there"); err != nil {
			t.Fatal(err)
		}
		if err := r.Read(key, &got); err != nil || got != "there" {
			t.Fatalf("%s: %q %v", key, got, err)
		}
	}
	if names, err := r.List("networks/a"); err != nil || len(names) != 2 {
		t.Fatalf("list: %v %v", names, err)
	}
	if names, err := r.List("networks/b"); err != nil || len(names) != 0 {
		t.Fatalf("list what is not there: %v %v", names, err)
	}
	for range 2 {
		if err := r.Remove("networks/a"); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{"../x", "/etc/passwd", "networks/../../x"} {
		if err := r.Write(key, 1); err == nil {
			t.Errorf("wrote %s", key)
		}
	}
	unlock, err := r.Lock("network-a")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := TryAcquire(r.layout.Lock("net-network-a")); !errors.Is(err, ErrLocked) {
		t.Errorf("the lock is free: %v", err)
	}
	unlock()
}

func TestADamagedEndpointOfAnEarlierBootIsNoEndpoint(t *testing.T) {
	l := Layout{Data: t.TempDir(), Run: t.TempDir()}
	r := l.Records()
	var got string
	for key, want := range map[string]bool{"networks/a/endpoints/x": true, "networks/a/runtime": false} {
		path := filepath.Join(l.Data, key)
		if err := r.Write(key, "there"); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("torn"), 0o600); err != nil {
			t.Fatal(err)
		}
		var damaged *DamagedError
		if err := r.Read(key, &got); !errors.As(err, &damaged) {
			t.Errorf("%s: damage of this boot: %v", key, err)
		}
		if err := os.Chtimes(path, time.Time{}, booted().Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
		if err := r.Read(key, &got); errors.Is(err, fs.ErrNotExist) != want {
			t.Errorf("%s: damage of an earlier boot: %v", key, err)
		}
	}
}
