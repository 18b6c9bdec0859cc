package images

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// A builder makes the layers of images in a work directory of the cache.
type builder struct {
	ctx   context.Context
	cache *Cache
	log   io.Writer // what the tools print
	work  string    // removed with everything in it when the builder is done
}

// layerDir returns a new directory for an image's own files.
func (b *builder) layerDir(im Image) (string, error) {
	dir := filepath.Join(b.work, im.Name, "layer")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make layer of %s: %w", im.Name, err)
	}
	return dir, os.Chmod(dir, 0o755)
}

func makeBusybox(b *builder, im Image) error {
	dir, err := b.layerDir(im)
	if err != nil {
		return err
	}
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return fmt.Errorf("find busybox: %w (apt-get install busybox-static)", err)
	}
	return b.host(im, dir, "BUSYBOX="+busybox)
}

func makeDebian(b *builder, im Image) error {
	dir, err := b.layerDir(im)
	if err != nil {
		return err
	}
	src, err := hostSource()
	if err != nil {
		return err
	}
	cmd := b.command("debootstrap", "--variant=minbase", "--keyring="+src.keyring, src.suite, dir, src.uri)
	cmd.Env = append(os.Environ(), src.proxy...)
	if err := b.run(im, cmd); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "etc/apt/sources.list"), []byte(src.list()), 0o644); err != nil {
		return fmt.Errorf("write apt sources: %w", err)
	}
	return b.host(im, dir)
}

// host runs an image's recipe on the host, with ROOT naming the layer.
func (b *builder) host(im Image, dir string, env ...string) error {
	script, err := im.recipe()
	if err != nil {
		return err
	}
	cmd := b.command("sh", "-euc", script)
	cmd.Env = append(append(os.Environ(), "ROOT="+dir), env...)
	return b.run(im, cmd)
}

// inside runs $RECIPE in the system below, with an overlay catching what it
// writes. It is PID 1 of its namespaces: mounts and stray daemons end with it.
const inside = `
mount -t overlay overlay -o "lowerdir=$BELOW,upperdir=$LAYER,workdir=$WORK" "$ROOT"
mount -t proc proc "$ROOT/proc"
mount --bind /dev "$ROOT/dev"
mount -t tmpfs tmpfs "$ROOT/tmp"
mount -t tmpfs tmpfs "$ROOT/run"
mount --bind "$LISTS" "$ROOT/var/lib/apt/lists"
if [ -e /etc/resolv.conf ]; then
	: >"$ROOT/etc/resolv.conf"
	mount --bind /etc/resolv.conf "$ROOT/etc/resolv.conf"
fi
chroot "$ROOT" /usr/bin/env -i PATH="$PATH" LC_ALL=C DEBIAN_FRONTEND=noninteractive $PROXY sh -euc "$RECIPE"
`

// debianPrelude is run once per build, to know what can be installed.
const debianPrelude = "apt-get update\n"

func makeFromDebian(b *builder, im Image) error {
	script, err := im.recipe()
	if err != nil {
		return err
	}
	dir, err := b.layerDir(im)
	if err != nil {
		return err
	}
	if err := b.updateLists(im); err != nil {
		return err
	}
	if err := b.chroot(im, dir, script); err != nil {
		return err
	}
	return b.tidy(im, dir)
}

func (b *builder) lists() string { return filepath.Join(b.work, "lists") }

func (b *builder) updateLists(im Image) error {
	if _, err := os.Stat(b.lists()); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Join(b.lists(), "partial"), 0o755); err != nil {
		return fmt.Errorf("make apt lists: %w", err)
	}
	return b.chroot(im, filepath.Join(b.work, "lists-layer"), debianPrelude)
}

func (b *builder) chroot(im Image, layer, script string) error {
	below, err := b.unpacked(im.Base)
	if err != nil {
		return err
	}
	root, work := layer+".root", layer+".work"
	for _, d := range []string{layer, root, work} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("make %s: %w", d, err)
		}
	}
	cmd := b.command("sh", "-euc", inside)
	cmd.Env = append(os.Environ(), "BELOW="+below, "LAYER="+layer, "WORK="+work, "ROOT="+root,
		"LISTS="+b.lists(), "RECIPE="+script, "PROXY="+strings.Join(proxies(), " "))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Unshareflags: syscall.CLONE_NEWNS}
	return b.run(im, cmd)
}

// tidy removes from a layer what only its making needed.
func (b *builder) tidy(im Image, dir string) error {
	return b.run(im, b.command("sh", "-euc", `
cd "$0"
rm -rf var/cache/apt/archives var/cache/apt/*.bin var/cache/debconf/*-old var/lib/dpkg/*-old var/lib/apt/lists tmp run/* dev proc etc/resolv.conf
[ ! -d var/log ] || find var/log -type f -delete
for d in run var/cache/apt; do rmdir "$d" 2>/dev/null || true; done
`, dir))
}

// unpacked returns a directory with the files of a cached image without base.
func (b *builder) unpacked(name string) (string, error) {
	dir := filepath.Join(b.work, name, "layer")
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("unpack %s: %w", name, err)
	}
	cmd := b.command("tar", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-C", dir, "-xpf", b.cache.tar(name))
	return dir, b.run(Image{Name: name}, cmd)
}

func (b *builder) command(name string, args ...string) *exec.Cmd {
	return exec.CommandContext(b.ctx, name, args...)
}

func (b *builder) run(im Image, cmd *exec.Cmd) error {
	cmd.Stdout, cmd.Stderr = b.log, b.log
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("make image %s: %s: %w", im.Name, filepath.Base(cmd.Path), err)
	}
	return nil
}
