package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// imageRows measure how an image comes to a host that has nothing of it, and
// from the same run what its parts cost by themselves, each on all processors:
// none of them can be saved, but they can overlap.
func imageRows() scenario {
	const what = "of 277 MB, 6 gzip layers"
	with := func(do func(context.Context, *runner, *fixture, string) error) func(context.Context, *runner, string) (time.Duration, error) {
		return func(ctx context.Context, r *runner, dir string) (time.Duration, error) {
			f, err := needFixture(ctx, filepath.Dir(dir))
			if err != nil {
				return 0, err
			}
			begun := time.Now()
			err = do(ctx, r, f, dir)
			return time.Since(begun), err
		}
	}
	floor := func(do func(*fixture) error) func(context.Context, *runner, string) (time.Duration, error) {
		return with(func(_ context.Context, _ *runner, f *fixture, _ string) error { return do(f) })
	}
	return scenario{name: "images", services: 1, steps: []step{
		{call: with(func(ctx context.Context, r *runner, f *fixture, dir string) error { return r.forget(ctx, f, dir) })},
		{row: "load " + what, call: with(func(ctx context.Context, r *runner, f *fixture, dir string) error {
			return r.image(ctx, dir, "load", "-i", f.archive)
		})},
		{call: with(func(ctx context.Context, r *runner, f *fixture, dir string) error { return r.forget(ctx, f, dir) })},
		{row: "pull " + what, call: with(func(ctx context.Context, r *runner, f *fixture, dir string) error {
			return r.image(ctx, dir, "image", "pull", "-q", f.ref)
		})},
		{row: "… gunzip alone", call: floor((*fixture).gunzip)},
		{row: "… sha256 alone, of both forms", call: floor((*fixture).digest)},
		{row: "… tar -x and sync alone", call: floor((*fixture).untar)},
	}}
}

// image runs a command about images: docker compose's are docker's.
func (r *runner) image(ctx context.Context, dir string, args ...string) error {
	words := r.words
	if words[len(words)-1] == "compose" {
		words = words[:len(words)-1]
	}
	_, err := (&runner{name: r.name, words: words, env: r.env}).run(ctx, dir, args...)
	return err
}

// forget takes the image away again, and lets the disk come to rest.
func (r *runner) forget(ctx context.Context, f *fixture, dir string) error {
	for _, ref := range []string{"davit-bench:1", f.ref} {
		if err := r.image(ctx, dir, "image", "rm", "-f", ref); err != nil {
			return fmt.Errorf("forget the measured image: %w", err)
		}
	}
	unix.Sync()
	return nil
}
