package guest

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
)

// A Machine is what `make guest` has left in the cache: a kernel, an initrd and
// the disk of a Debian with systemd.
type Machine struct{ dir string }

// ErrNone means that there is no guest, or nothing to run one.
var ErrNone = errors.New("make guest gets QEMU and makes the guest, from Debian packages")

// Find returns the machine in the user's cache.
func Find() (*Machine, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	m := &Machine{filepath.Join(cache, "davit", "guest")}
	for _, name := range []string{"vmlinuz", "initrd.gz", "root.ext4"} {
		if _, err := os.Stat(filepath.Join(m.dir, name)); err != nil {
			return nil, ErrNone
		}
	}
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		return nil, ErrNone
	}
	return m, nil
}

// Boot runs the machine until it powers itself off, or ctx ends. The tar at
// payload is unpacked at every boot, and `run` of it run; what that says goes
// to the file out, what kernel and systemd say to console. The disk is as it
// was made, and what is changed in it lasts until the machine is off.
func (m *Machine) Boot(ctx context.Context, payload, out, console string) error {
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64",
		"-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1536",
		"-nodefaults", "-no-user-config", "-display", "none",
		"-kernel", filepath.Join(m.dir, "vmlinuz"), "-initrd", filepath.Join(m.dir, "initrd.gz"),
		"-append", "console=ttyS0 root=/dev/vda rw quiet panic=-1",
		"-drive", "file="+filepath.Join(m.dir, "root.ext4")+",format=raw,if=virtio,snapshot=on",
		"-drive", "file="+payload+",format=raw,if=virtio,readonly=on",
		"-serial", "file:"+console, "-serial", "file:"+out)
	said, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return fmt.Errorf("run guest: %w", ctx.Err())
	}
	if err != nil {
		return fmt.Errorf("run guest: %w: %s", err, said)
	}
	return nil
}

// Pack writes files, by their names in the guest, to a tar.
func Pack(path string, files map[string]string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := tar.NewWriter(f)
	for name, from := range files {
		if err := add(w, name, from); err != nil {
			return fmt.Errorf("pack %s: %w", name, err)
		}
	}
	return errors.Join(w.Close(), f.Close())
}

func add(w *tar.Writer, name, from string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: int64(st.Mode().Perm()), Size: st.Size(), ModTime: st.ModTime()}); err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return err
}
