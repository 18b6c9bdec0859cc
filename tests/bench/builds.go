package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

const (
	smallFiles = 5000
	largeFiles = 20 // of 10 MB each
)

// large is a project whose context is 5,000 small files and 200 MB. plain has
// the same steps without RUN: what a build costs beside its commands.
const large = `services:
  large:
    build:
      context: .
      dockerfile_inline: |
        FROM busybox
        WORKDIR /app
        RUN echo one > /one
        COPY . .
        RUN echo two > /two
  plain:
    build:
      context: .
      dockerfile_inline: |
        FROM busybox
        WORKDIR /app
        COPY . .
`

// edited is a service that answers with a file of its image; PORT is replaced.
const edited = `services:
  web:
    build: .
    stop_signal: SIGKILL
    ports: ['127.0.0.1:PORT:80']
`

const pythonServer = `import http.server
text = open("/app/word", "rb").read()
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(text)
http.server.ThreadingHTTPServer(("", 80), Answer).serve_forever()
`

// pythonFile has the modules compiled in the image: python's own images bring
// none that are, and compiling them takes a third of a second at each start.
const pythonFile = `FROM python:3.11-slim
RUN python3 -c "import http.server"
WORKDIR /app
COPY . .
CMD ["python3", "server.py"]
`

// builds are the scenarios of building: from what is cached to what is new, and
// from an edit to the answer.
func builds() []scenario {
	return []scenario{
		{name: "build", file: large, prepare: fillContext, before: []string{"build", "--quiet"}, steps: []step{
			{args: []string{"build", "--quiet", "large"}}, // takes up what the step at the end changed
			{row: "build, cached: 5,000 files and 200 MB, two RUN steps", args: []string{"build", "--quiet", "large"}},
			{row: "build, one small file changed", call: changeAndBuild("large")},
			{row: "build, one small file changed, no RUN steps", call: changeAndBuild("plain")},
		}},
		{name: "cold build", file: large, prepare: fillContext, steps: []step{
			{row: "build, cold: 5,000 files and 200 MB, two RUN steps", call: buildCold},
		}},
		{name: "edit busybox", file: edited, prepare: dockerfile("FROM busybox\nCOPY word /www/index.html\nCMD [\"httpd\", \"-f\", \"-p\", \"80\", \"-h\", \"/www\"]\n"),
			before: []string{"up", "-d", "--build"}, after: []string{"down", "-t", "0"}, steps: []step{
				{row: "edit, up -d --build, answer of a busybox httpd", call: editUntilAnswered},
			}},
		{name: "edit python", file: edited, images: []string{"python"}, prepare: dockerfile(pythonFile),
			before: []string{"up", "-d", "--build"}, after: []string{"down", "-t", "0"}, steps: []step{
				{row: "edit, up -d --build, answer of a python service", call: editUntilAnswered},
			}},
	}
}

// fillContext writes the context of large: noise, which no file system and no
// digest makes short work of.
func fillContext(dir string) error {
	noise := rand.NewChaCha8([32]byte{1})
	write := func(name string, size int) error {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		b := make([]byte, size)
		_, _ = noise.Read(b)
		return os.WriteFile(path, b, 0o644)
	}
	for i := range smallFiles {
		if err := write(fmt.Sprintf("src/d%02d/f%d.js", i%100, i), 200+i); err != nil {
			return err
		}
	}
	for i := range largeFiles {
		if err := write(fmt.Sprintf("assets/a%d.bin", i), 10<<20); err != nil {
			return err
		}
	}
	return nil
}

func dockerfile(text string) func(dir string) error {
	return func(dir string) error {
		for name, text := range map[string]string{"Dockerfile": text, "word": "first", "server.py": pythonServer} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				return err
			}
		}
		return nil
	}
}

// word is never the same twice.
func word() string { return strconv.FormatInt(time.Now().UnixNano(), 36) }

func changeAndBuild(service string) func(context.Context, *runner, string) (time.Duration, error) {
	return func(ctx context.Context, r *runner, dir string) (time.Duration, error) {
		if err := os.WriteFile(filepath.Join(dir, "src/d07/f7.js"), []byte(word()), 0o644); err != nil {
			return 0, err
		}
		return r.run(ctx, dir, "build", "--quiet", service)
	}
}

// buildCold builds when nothing is remembered of an earlier build.
func buildCold(ctx context.Context, r *runner, dir string) (time.Duration, error) {
	if out, err := r.engine(ctx, "builder", "prune", "--all", "--force").CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%s builder prune: %w: %s", r.name, err, out)
	}
	return r.run(ctx, dir, "build", "--quiet", "large")
}

// editUntilAnswered changes a file and returns how long it takes until the
// service answers with the new content.
func editUntilAnswered(ctx context.Context, r *runner, dir string) (time.Duration, error) {
	want := word()
	start := time.Now()
	if err := os.WriteFile(filepath.Join(dir, "word"), []byte(want), 0o644); err != nil {
		return 0, err
	}
	if _, err := r.run(ctx, dir, "up", "-d", "--build"); err != nil {
		return 0, err
	}
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for deadline := start.Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		reply, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/", r.port))
		if err != nil {
			continue
		}
		got, err := io.ReadAll(io.LimitReader(reply.Body, 1<<10))
		reply.Body.Close()
		if err == nil && string(got) == want {
			return time.Since(start), nil
		}
	}
	return 0, fmt.Errorf("%s: the service did not answer with what was written", r.name)
}
