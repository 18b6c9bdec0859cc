package kernel

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"

	"golang.org/x/sys/unix"
)

// ErrNoLoop means that this machine cannot mount a file as a disk.
var ErrNoLoop = errors.New("no loop device can be had")

// Disk mounts an ext4 with a journal at dir, on a file beside it: of so many
// bytes, with so many inodes (0: as mkfs thinks right). Undo unmounts it, in
// the mount namespace of the caller, and removes the file.
func Disk(dir string, bytes int64, inodes int) (undo func() error, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	file := dir + ".ext4"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file)
		}
	}()
	if err := os.Truncate(file, bytes); err != nil {
		return nil, err
	}
	args := []string{"-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0"}
	if inodes > 0 {
		args = append(args, "-N", strconv.Itoa(inodes))
	}
	if out, err := exec.Command("mkfs.ext4", append(args, file)...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("mkfs.ext4: %w: %s", err, out)
	}
	if out, err := exec.Command("mount", "-o", "loop", file, dir).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", ErrNoLoop, out)
	}
	return func() error {
		return errors.Join(unix.Unmount(dir, unix.MNT_DETACH), os.Remove(file))
	}, nil
}
