package picture

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestAPictureShowsAllThatCounts(t *testing.T) {
	dir := t.TempDir()
	for _, err := range []error{
		os.MkdirAll(filepath.Join(dir, "a/b"), 0o755), os.Chmod(filepath.Join(dir, "a"), 0o750), os.Chmod(filepath.Join(dir, "a/b"), 0o755),
		os.WriteFile(filepath.Join(dir, "a/b/f"), []byte("1\n"), 0o600),
		os.WriteFile(filepath.Join(dir, "skip"), nil, 0o600), os.Symlink("a/b", filepath.Join(dir, "to")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	got := Of(dir, func(rel string) bool { return rel != "skip" }, nil)
	const want = "drwxr-x--- a\ndrwxr-xr-x a/b\n-rw------- a/b/f \"1\\n\"\nLrwxrwxrwx to -> a/b\n"
	if got != want {
		t.Errorf("got\n%s, want\n%s", got, want)
	}
	whose := func(info fs.FileInfo) string { return "me" }
	if d := Difference(Of(dir, nil, whose), "me drwxr-x--- a\nme drwxr-xr-x a/b\nme -rw------- a/b/f \"2\\n\"\nme Lrwxrwxrwx to -> a/b\n"); d != "+ me -rw------- a/b/f \"1\\n\"\n+ me -rw------- skip \"\"\n- me -rw------- a/b/f \"2\\n\"\n" {
		t.Errorf("the difference is\n%s", d)
	}
}
