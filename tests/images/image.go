package images

import (
	"embed"
	"fmt"
	"slices"

	"github.com/davit-run/davit/engine"
)

//go:embed recipes
var recipes embed.FS

// Path is the search path that every image gives its processes.
const Path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// An Image is one base image: what it is called, what it stands on, and how
// its own layer is made.
type Image struct {
	Name   string   // the recipe's, such as redis
	Tags   []string // references, the first one being the image's own
	Base   string   // name of the image below; empty: none
	Config engine.ImageConfig
	// make fills a directory with the files of the image's own layer.
	make func(b *builder, im Image) error
}

// All lists the images that can be made, each after the one it stands on.
func All() []Image {
	return []Image{
		{
			Name: "busybox", Tags: []string{"busybox:latest", "busybox:1"}, make: makeBusybox,
			Config: engine.ImageConfig{Env: []string{Path}, Cmd: []string{"sh"}},
		},
		{
			Name: "debian", Tags: []string{"debian:bookworm-slim"}, make: makeDebian,
			Config: engine.ImageConfig{Env: []string{Path}, Cmd: []string{"bash"}},
		},
		onDebian("redis", []string{"redis:latest", "redis:7"}, engine.ImageConfig{
			Entrypoint: []string{"docker-entrypoint.sh"}, Cmd: []string{"redis-server"},
			ExposedPorts: set("6379/tcp"), Volumes: set("/data"), WorkingDir: "/data",
		}),
		onDebian("nginx", []string{"nginx:latest", "nginx:1"}, engine.ImageConfig{
			Entrypoint: []string{"/docker-entrypoint.sh"}, Cmd: []string{"nginx", "-g", "daemon off;"},
			ExposedPorts: set("80/tcp"), StopSignal: "SIGQUIT",
		}),
		onDebian("postgres", []string{"postgres:latest", "postgres:15"}, engine.ImageConfig{
			Env:        []string{"LANG=C.UTF-8", "PG_MAJOR=15", "PGDATA=/var/lib/postgresql/data"},
			Entrypoint: []string{"docker-entrypoint.sh"}, Cmd: []string{"postgres"},
			ExposedPorts: set("5432/tcp"), Volumes: set("/var/lib/postgresql/data"), StopSignal: "SIGINT",
		}),
		onDebian("node", []string{"node:latest", "node:18", "node:18-slim"}, engine.ImageConfig{
			Entrypoint: []string{"docker-entrypoint.sh"}, Cmd: []string{"node"},
		}),
		onDebian("python", []string{"python:latest", "python:3", "python:3.11", "python:3.11-slim"}, engine.ImageConfig{
			Env: []string{"LANG=C.UTF-8"}, Cmd: []string{"python3"},
		}),
	}
}

func onDebian(name string, tags []string, c engine.ImageConfig) Image {
	c.Env = append([]string{Path}, c.Env...)
	if name == "postgres" {
		c.Env[0] = Path + ":/usr/lib/postgresql/15/bin"
	}
	return Image{Name: name, Tags: tags, Base: "debian", Config: c, make: makeFromDebian}
}

func set(keys ...string) map[string]struct{} {
	m := make(map[string]struct{}, len(keys))
	for _, k := range keys {
		m[k] = struct{}{}
	}
	return m
}

// Find returns the images with the given names, in the order of All; no names
// mean every image.
func Find(names ...string) ([]Image, error) {
	all := All()
	if len(names) == 0 {
		return all, nil
	}
	for _, n := range names {
		if !slices.ContainsFunc(all, func(im Image) bool { return im.Name == n }) {
			return nil, fmt.Errorf("image %s: no recipe of that name", n)
		}
	}
	return slices.DeleteFunc(all, func(im Image) bool { return !slices.Contains(names, im.Name) }), nil
}

// recipe is the script that makes the image's layer inside the one below.
func (im Image) recipe() (string, error) {
	b, err := recipes.ReadFile("recipes/" + im.Name + ".sh")
	return string(b), err
}
