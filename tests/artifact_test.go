package tests

import (
	"bytes"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/davit-run/davit/engine/registry"
	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/project/artifact"
	"github.com/davit-run/davit/tests/kernel"
)

// TestHostileArtifacts publishes projects whose files have names that lead out
// of their directory, or that reach for what is this host's, and has commands
// read them that only look (CVE-2025-62725): each is refused, and nothing is
// written but below davit's root.
func TestHostileArtifacts(t *testing.T) {
	kernel.NeedRoot(t)
	bin, err := kernel.Binaries()
	if err != nil {
		t.Fatal(err)
	}
	host := startRegistry(t)
	home := t.TempDir()
	c, err := registry.New(store.Layout{Data: t.TempDir(), Run: t.TempDir()}, registry.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const web = "services: {web: {image: busybox}}\n"
	beside := func(kind, annotation, name string) registry.Part {
		return registry.Part{MediaType: kind, Content: []byte("X=1\n"),
			Annotations: map[string]string{annotation: name, "com.docker.compose.extends": "true"}}
	}
	for i, c1 := range []struct {
		file string
		part registry.Part
		says string
	}{
		{web, beside(artifact.EnvType, "com.docker.compose.envfile", "../../../../../../../.."+home+"/written"), "lead out of the artefact"},
		{web, beside(artifact.FileType, "com.docker.compose.file", home+"/written"), "lead out of the artefact"},
		{web, beside(artifact.EnvType, "com.docker.compose.envfile", "a/b"), "lead out of the artefact"},
		{"services: {web: {image: busybox, env_file: /etc/passwd}}\n", beside(artifact.EnvType, "com.docker.compose.envfile", "x.env"), "may not read /etc/passwd"},
		{"include: [" + home + "/secret.yaml]\n" + web, beside(artifact.EnvType, "com.docker.compose.envfile", "x.env"), "may not read " + home + "/secret.yaml"},
	} {
		ref := fmt.Sprintf("%s/hostile:v%d", host, i)
		a := registry.Artifact{Type: artifact.Type, Parts: []registry.Part{registry.Part(artifact.ComposeFile("compose.yaml", "", []byte(c1.file), false)), c1.part}}
		if _, err := c.PushArtifact(t.Context(), ref, a, artifact.ConfigType, ""); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"config"}, {"ps"}, {"up", "-d"}} {
			root := t.TempDir()
			cmd := exec.Command(filepath.Join(bin, "davit"), append([]string{"--allow-remote", "oci://" + host + "/hostile", "-f", "oci://" + ref}, args...)...)
			cmd.Dir, cmd.Env = home, []string{"HOME=" + home, "DAVIT_ROOT=" + root, "PATH=" + os.Getenv("PATH")}
			var out, errs bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &errs
			if err := cmd.Run(); err == nil || !strings.Contains(errs.String(), c1.says) {
				t.Errorf("%d %q: %v, %s\nwithout %q", i, args, err, errs.Bytes(), c1.says)
			}
			if strings.Contains(out.String(), "root:") {
				t.Errorf("%d %q prints the file", i, args)
			}
			if found := filesBelow(t, home); found != "" {
				t.Errorf("%d %q wrote %s", i, args, found)
			}
		}
	}
}

func filesBelow(t *testing.T, dir string) string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(found, " ")
}

// startRegistry runs Debian's docker-registry on a free port of this machine; on
// another one when somebody else was quicker to take it.
func startRegistry(t *testing.T) string {
	t.Helper()
	bin, err := exec.LookPath("docker-registry")
	if err != nil {
		t.Skip("docker-registry is missing: apt-get install docker-registry")
	}
	for range 10 {
		if host := tryRegistry(t, bin, t.TempDir()); host != "" {
			return host
		}
	}
	t.Fatal("the registry does not answer")
	return ""
}

// tryRegistry returns where the registry answers, or nothing when it has ended.
func tryRegistry(t *testing.T, bin, dir string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := l.Addr().String()
	l.Close()
	ours := filepath.Base(filepath.Dir(dir)) + filepath.Base(dir)
	config := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s/store}}\nhttp: {addr: %q, headers: {X-Test: [%q]}}\n", dir, host, ours)
	if err := os.WriteFile(filepath.Join(dir, "config.yml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(bin, "serve", filepath.Join(dir, "config.yml"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if resp, err := http.Get("http://" + host + "/v2/"); err == nil {
			resp.Body.Close()
			if resp.Header.Get("X-Test") == ours {
				return host
			}
		}
		select {
		case <-ended:
			return ""
		default:
		}
	}
	return ""
}
