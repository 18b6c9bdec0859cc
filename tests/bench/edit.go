package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// manyFiles is how many files a large checkout changes.
const manyFiles = 5000

// editFile is a service that is synced and does nothing.
const editFile = `services:
  s1:
    image: busybox
    command: sleep 3600
    stop_signal: SIGKILL
    develop: {watch: [{action: sync, path: ./src, target: /app}]}
`

// edits are the scenarios of somebody at work on a project that is watched.
// They have no peer: docker compose waits 500 ms by design before it looks.
func edits() []scenario {
	watch, down := []string{"up", "-d", "--watch"}, []string{"down", "-t", "0"}
	return []scenario{
		{name: "edit: sync", services: 1, file: editFile, alone: true, before: watch, after: down, steps: []step{
			{row: "save until a file is in the container", call: saveSynced, often: 14},
			{row: fmt.Sprintf("checkout that brings %d files until all are synced", manyFiles), call: checkoutNew},
		}},
		{name: "edit: rebuild", example: "visits", images: []string{"redis", "node"}, env: "BASE=node\nVISITS_PORT=PORT\n",
			alone: true, before: watch, after: []string{"down", "-v"}, steps: []step{
				{row: "save until the rebuilt image of examples/visits serves", call: saveServed},
			}},
		// Last: ext4 without a journal is slow for minutes after many removals.
		{name: "edit: change", services: 1, file: editFile, alone: true, before: watch, after: down, steps: []step{
			{row: fmt.Sprintf("checkout that changes %d files until all are synced", manyFiles), call: checkoutChanged},
		}},
	}
}

// appOf is the directory of the one container of a project that files are
// synced to, as the container sees it.
func appOf(ctx context.Context, r *runner, dir string) (string, error) {
	pid, err := pidOf(ctx, r, dir)
	if err != nil {
		return "", err
	}
	return filepath.Join("/proc", strconv.Itoa(pid), "root/app"), nil
}

// until waits for a condition, looking often enough to measure milliseconds.
func until(ctx context.Context, what string, met func() bool) error {
	return untilEvery(ctx, time.Millisecond/2, what, met)
}

// untilEvery looks less often: where looking takes so much of the machine that
// what is waited for is slower for it.
func untilEvery(ctx context.Context, pause time.Duration, what string, met func() bool) error {
	for deadline := time.Now().Add(30 * time.Second); !met(); time.Sleep(pause) {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Now().After(deadline) {
			return errors.New(what + ": not within 30 s")
		}
	}
	return nil
}

// saveSynced saves a file as an editor does, beside and in its place.
func saveSynced(ctx context.Context, r *runner, dir string) (time.Duration, error) {
	app, err := appOf(ctx, r, dir)
	if err != nil {
		return 0, err
	}
	src := filepath.Join(dir, "src")
	if err := os.MkdirAll(src, 0o755); err != nil {
		return 0, err
	}
	text := fmt.Sprintf("// saved at %d\n", time.Now().UnixNano())
	if err := os.WriteFile(filepath.Join(src, "main.js~"), []byte(text), 0o644); err != nil {
		return 0, err
	}
	start := time.Now()
	if err := os.Rename(filepath.Join(src, "main.js~"), filepath.Join(src, "main.js")); err != nil {
		return 0, err
	}
	err = until(ctx, "sync of a file", func() bool {
		b, _ := os.ReadFile(filepath.Join(app, "main.js"))
		return string(b) == text
	})
	return time.Since(start), err
}

// checkoutNew brings a tree that was not there. It is kept, as a checkout is.
func checkoutNew(ctx context.Context, r *runner, dir string) (time.Duration, error) {
	return checkout(ctx, r, dir, fmt.Sprintf("src/tree%d", time.Now().UnixNano()))
}

// checkoutChanged changes all files of one tree.
func checkoutChanged(ctx context.Context, r *runner, dir string) (time.Duration, error) {
	return checkout(ctx, r, dir, "src/tree")
}

// checkout puts a tree in its place by one rename, so that nothing of the time
// is the checkout's own.
func checkout(ctx context.Context, r *runner, dir, name string) (time.Duration, error) {
	app, err := appOf(ctx, r, dir)
	if err != nil {
		return 0, err
	}
	text := fmt.Sprintf("// of the checkout at %d\n", time.Now().UnixNano())
	tree, stage, old := filepath.Join(dir, name), filepath.Join(dir, "stage"), filepath.Join(dir, "old")
	for i := range manyFiles {
		name := filepath.Join(stage, fmt.Sprint("d", i%50), fmt.Sprintf("f%d.js", i))
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return 0, err
		}
		if err := os.WriteFile(name, []byte(text+strings.Repeat("x", i%400)), 0o644); err != nil {
			return 0, err
		}
	}
	defer os.RemoveAll(old)
	if err := os.MkdirAll(filepath.Dir(tree), 0o755); err != nil {
		return 0, err
	}
	start := time.Now()
	if err := os.Rename(tree, old); err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, err
	}
	if err := os.Rename(stage, tree); err != nil {
		return 0, err
	}
	err = until(ctx, "sync of a checkout", func() bool { return sameTree(filepath.Join(app, filepath.Base(name)), text) })
	return time.Since(start), err
}

// sameTree says whether every file of a checkout is there; the last of each
// directory is asked first, which is most often the answer.
func sameTree(dir, text string) bool {
	for i := manyFiles - 1; i >= 0; i-- {
		b, err := os.ReadFile(filepath.Join(dir, fmt.Sprint("d", i%50), fmt.Sprintf("f%d.js", i)))
		if err != nil || !strings.HasPrefix(string(b), text) || len(b) != len(text)+i%400 {
			return false
		}
	}
	return true
}

// saveServed edits the page of examples/visits and asks for it until the new
// one comes.
func saveServed(ctx context.Context, r *runner, dir string) (time.Duration, error) {
	file := filepath.Join(dir, "web/server.js")
	page, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	before, after, ok := strings.Cut(string(page), "This page ")
	if !ok {
		return 0, fmt.Errorf("%s has no page to edit", file)
	}
	_, after, _ = strings.Cut(after, " visited")
	word := fmt.Sprintf("(edited at %d) was", time.Now().UnixNano())
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	start := time.Now()
	if err := os.WriteFile(file, []byte(before+"This page "+word+" visited"+after), 0o644); err != nil {
		return 0, err
	}
	err = untilEvery(ctx, 5*time.Millisecond, "the rebuilt page", func() bool {
		reply, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d/", r.port))
		if err != nil {
			return false
		}
		defer reply.Body.Close()
		b, _ := io.ReadAll(reply.Body)
		return strings.Contains(string(b), word)
	})
	return time.Since(start), err
}
