package chaos

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/tests/kernel"
)

// ErrNoDisk means that this host cannot make a Disk: no mkfs.ext4, no loop
// devices, no ext4.
var ErrNoDisk = errors.New("no ext4 on a loop device here")

// A Disk is an ext4 file system in a file, mounted at Dir, whose power can be
// cut: what had not reached it is lost, as with a machine that stops. It is
// seen by the goroutine that made it and by the processes that it starts, which
// also see a boot of their own.
type Disk struct {
	Dir   string
	image string
	boot  string // stands in for /proc/sys/kernel/random/boot_id
}

const bootIDFile = "/proc/sys/kernel/random/boot_id"

// NewDisk makes a disk of that many bytes, its image in dir, with further
// options of mkfs.ext4(8). Its goroutine stays locked to its thread, in a mount
// namespace of its own.
func NewDisk(dir string, size int64, options ...string) (*Disk, error) {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return nil, fmt.Errorf("make mount namespace: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return nil, fmt.Errorf("make mounts slaves: %w", err)
	}
	d := &Disk{image: filepath.Join(dir, "disk.img"), boot: filepath.Join(dir, "boot_id")}
	if err := d.reboot(); err != nil {
		return nil, err
	}
	if err := unix.Mount(d.boot, bootIDFile, "", unix.MS_BIND, ""); err != nil {
		return nil, fmt.Errorf("put a boot's name in place: %w", err)
	}
	f, err := os.Create(d.image)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return nil, err
	}
	options = append(options, "-q", "-F", "-E", "lazy_itable_init=1,nodiscard", d.image)
	if out, err := exec.Command("mkfs.ext4", options...).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %w: %s", ErrNoDisk, err, out)
	}
	if d.Dir, err = kernel.Root(); err != nil {
		return nil, err
	}
	return d, d.mount()
}

// reboot gives the machine's boot another name (random(4)).
func (d *Disk) reboot() error {
	var b [16]byte
	_, _ = rand.Read(b[:])
	h := hex.EncodeToString(b[:])
	return os.WriteFile(d.boot, []byte(h[:8]+"-"+h[8:12]+"-"+h[12:16]+"-"+h[16:20]+"-"+h[20:]+"\n"), 0o444)
}

func (d *Disk) mount() error {
	if out, err := exec.Command("mount", "-t", "ext4", "-o", "loop", d.image, d.Dir).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %w: %s", ErrNoDisk, err, out)
	}
	if err := os.MkdirAll(d.run(), 0o700); err != nil {
		return err
	}
	return unix.Mount("tmpfs", d.run(), "tmpfs", 0, "mode=0700")
}

// run is where davit keeps what a reboot empties: a tmpfs, as /run is.
func (d *Disk) run() string { return filepath.Join(d.Dir, "run") }

// EXT4_IOC_SHUTDOWN, which is XFS_IOC_GOINGDOWN, and its flag that drops the
// journal's unwritten transactions too (fs/ext4/ioctl.c).
const (
	iocShutdown = 2<<30 | 4<<16 | 'X'<<8 | 125
	noLogFlush  = 2
)

// Off stops the disk where it is: nothing that it has not got by now will ever
// be on it. Whoever works on it meets errors from here on.
func (d *Disk) Off() error {
	f, err := os.Open(d.Dir)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.IoctlSetPointerInt(int(f.Fd()), iocShutdown, noLogFlush); err != nil {
		return fmt.Errorf("shut the file system down: %w", err)
	}
	return nil
}

// On ends whoever still works there, as the machine's stop would have, and
// brings the disk back as the journal has it, in another boot.
func (d *Disk) On() error {
	if err := d.unmount(); err != nil {
		return err
	}
	if err := d.reboot(); err != nil {
		return err
	}
	return d.mount()
}

// unmount waits for the last process to have left the kernel.
func (d *Disk) unmount() error {
	deadline := time.Now().Add(patience)
	for {
		if err := kernel.End(d.Dir); err != nil {
			return err
		}
		_ = unix.Unmount(d.run(), unix.MNT_DETACH)
		err := unix.Unmount(d.Dir, 0)
		if err == nil || errors.Is(err, unix.EINVAL) { // it is not mounted
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("unmount the disk: %w", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Fill takes what is left of the disk, blocks or inodes, and returns what gives
// it back.
func (d *Disk) Fill(inodes bool) (free func() error, err error) {
	dir := filepath.Join(d.Dir, "filler")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	for i, size := 0, 1<<20; size > 0; i++ {
		f, err := os.Create(filepath.Join(dir, fmt.Sprint(i)))
		if err == nil && !inodes {
			_, err = f.Write(make([]byte, size))
			err = errors.Join(err, f.Close())
		} else if err == nil {
			err = f.Close()
		}
		switch {
		case errors.Is(err, unix.ENOSPC) && inodes:
			size = 0
		case errors.Is(err, unix.ENOSPC):
			size /= 2
		case err != nil:
			return nil, err
		}
	}
	return func() error { return os.RemoveAll(dir) }, nil
}

// Verify has fsck look at the disk without changing it; it must be mounted by
// nobody.
func (d *Disk) Verify() error {
	if out, err := exec.Command("fsck.ext4", "-f", "-n", d.image).CombinedOutput(); err != nil {
		return fmt.Errorf("fsck: %w: %s", err, out)
	}
	return nil
}

// Close takes the disk away.
func (d *Disk) Close() error {
	err := d.unmount()
	return errors.Join(err, unix.Unmount(bootIDFile, unix.MNT_DETACH), kernel.Scrub(d.Dir), os.Remove(d.image))
}
