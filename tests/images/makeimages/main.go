// Command makeimages makes the base images of tests and examples and puts
// them where they are wanted: into a davit's store, or into an archive.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"github.com/davit-run/davit/tests/images"
)

func main() {
	cache := flag.String("cache", "", "directory of the cache (default: $DAVIT_IMAGE_CACHE or the XDG cache)")
	davit := flag.String("load", "", "load the images with this davit")
	archive := flag.String("archive", "", "write the images to this docker-archive; - is the standard output")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: makeimages [-cache DIR] [-load DAVIT] [-archive FILE] [IMAGE...]")
		flag.PrintDefaults()
	}
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *cache, *davit, *archive, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "makeimages:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, dir, davit, archive string, names []string) error {
	ims, err := images.Find(names...)
	if err != nil {
		return err
	}
	cache, err := images.Open(dir)
	if err != nil {
		return err
	}
	if err := cache.Make(ctx, os.Stderr, ims...); err != nil {
		return err
	}
	if archive != "" {
		if err := write(cache, archive, ims); err != nil {
			return err
		}
	}
	if davit != "" {
		return cache.Load(ctx, os.Stderr, davit, ims...)
	}
	return nil
}

func write(cache *images.Cache, path string, ims []images.Image) error {
	if path == "-" {
		return cache.WriteArchive(os.Stdout, ims...)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := cache.WriteArchive(f, ims...); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}
