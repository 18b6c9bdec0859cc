package quota

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/store"
)

// ErrUnsupported means that the file system enforces no project quotas: it is
// of a kind that has none, or not mounted with them (ext4(5) prjquota after
// tune2fs -O project,quota; xfs(5) prjquota; Linux 5.14).
var ErrUnsupported = errors.New("the store's file system enforces no project quotas (mount it with prjquota)")

// The ids that davit gives: far above those that people write in projid(5).
const (
	firstID = 1 << 30
	lastID  = 1<<31 - 1
)

// Limit lets directories, fresh and empty, hold bytes together, with all that
// is ever made below them; whoever writes more gets EDQUOT. So does root through
// an overlay, which writes without CAP_SYS_RESOURCE (ovl_fill_super); with it,
// ext4 lets root exceed every limit. A directory that was limited before keeps
// its id, so calling it again is harmless. lock is the path of a lock that all who use the file system take.
func Limit(ctx context.Context, lock string, bytes int64, dirs ...string) error {
	l, err := store.Acquire(ctx, lock)
	if err != nil {
		return err
	}
	defer l.Release()
	var open []*os.File
	defer func() {
		for _, f := range open {
			f.Close()
		}
	}()
	for _, dir := range dirs {
		f, err := os.OpenFile(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
		if err != nil {
			return err
		}
		open = append(open, f)
	}
	if err := limit(open, bytes); err != nil {
		return fmt.Errorf("limit %s to %d bytes: %w", dirs[0], bytes, err)
	}
	return nil
}

func limit(dirs []*os.File, bytes int64) error {
	if !enforced(dirs[0]) {
		return ErrUnsupported
	}
	id := uint32(0)
	for _, d := range dirs {
		if have, err := projectOf(d); err == nil && ours(have) {
			id = have
		}
	}
	if id == 0 {
		var err error
		if id, err = free(dirs[0]); err != nil {
			return err
		}
	}
	// The limit first: what then becomes the project's is bounded already.
	if err := setLimit(dirs[0], id, bytes); err != nil {
		return err
	}
	for _, d := range dirs {
		if err := setProject(d, id); err != nil {
			return err
		}
	}
	return nil
}

// Lift takes the limit of a directory away; one that has none, or is not there,
// is left alone.
func Lift(dir string) error {
	f, err := os.OpenFile(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	id, err := projectOf(f)
	if err != nil || !ours(id) {
		return nil
	}
	if err := setLimit(f, id, 0); err != nil {
		return fmt.Errorf("lift the limit of %s: %w", dir, err)
	}
	return nil
}

func ours(id uint32) bool { return id >= firstID && id <= lastID }

// free finds an id that no file of the file system has. A limit that a removed
// tree left behind is no obstacle.
func free(f *os.File) (uint32, error) {
	for range 1000 {
		id := firstID + rand.Uint32N(lastID-firstID+1)
		used, err := files(f, id)
		if err != nil {
			return 0, err
		}
		if used == 0 {
			return id, nil
		}
	}
	return 0, errors.New("no free project id found")
}

// An attributes is struct fsxattr of linux/fs.h.
type attributes struct {
	flags, extent, extents, project, cow uint32
	_                                    [8]byte
}

const (
	getAttributes  = 0x801c581f // FS_IOC_FSGETXATTR
	setAttributes  = 0x401c5820 // FS_IOC_FSSETXATTR
	projectInherit = 0x200      // FS_XFLAG_PROJINHERIT
)

func (a *attributes) ioctl(f *os.File, what uintptr) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), what, uintptr(unsafe.Pointer(a)))
	if errno != 0 {
		return os.NewSyscallError("ioctl", errno)
	}
	return nil
}

func projectOf(f *os.File) (uint32, error) {
	var a attributes
	err := a.ioctl(f, getAttributes)
	return a.project, err
}

func setProject(f *os.File, id uint32) error {
	var a attributes
	if err := a.ioctl(f, getAttributes); err != nil {
		return err
	}
	a.project = id
	a.flags |= projectInherit
	return a.ioctl(f, setAttributes)
}

// Commands of quotactl(2) that ext4 and xfs both know, from linux/dqblk_xfs.h.
const (
	getQuota = 'X'<<8 + 3 // Q_XGETQUOTA
	setQuota = 'X'<<8 + 4 // Q_XSETQLIM
	getState = 'X'<<8 + 5 // Q_XGETQSTAT

	projects        = 2      // PRJQUOTA
	projectFlag     = 2      // FS_PROJ_QUOTA
	projectEnforced = 1 << 5 // FS_QUOTA_PDQ_ENFD
	hardAndSoft     = 3 << 2 // FS_DQ_BSOFT | FS_DQ_BHARD
)

// quotactl is quotactl_fd(2): it finds the file system by an open file, so that
// no device node is needed. It was added by Linux 5.14.
func quotactl(f *os.File, command uintptr, id uint32, arg *[128]byte) error {
	_, _, errno := unix.Syscall6(unix.SYS_QUOTACTL_FD, f.Fd(), command<<8|projects, uintptr(id), uintptr(unsafe.Pointer(arg)), 0, 0)
	if errno != 0 {
		return os.NewSyscallError("quotactl_fd", errno)
	}
	return nil
}

// enforced tells whether the file system holds projects to their limits.
func enforced(f *os.File) bool {
	var state [128]byte // struct fs_quota_stat
	err := quotactl(f, getState, 0, &state)
	return err == nil && binary.NativeEndian.Uint16(state[2:])&projectEnforced != 0
}

// files is how many files a project has.
func files(f *os.File, id uint32) (uint64, error) {
	var q [128]byte // struct fs_disk_quota
	err := quotactl(f, getQuota, id, &q)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESRCH) {
		return 0, nil // never heard of
	}
	return binary.NativeEndian.Uint64(q[48:]), err
}

// setLimit bounds a project; 0 bytes mean no bound.
func setLimit(f *os.File, id uint32, bytes int64) error {
	var q [128]byte // struct fs_disk_quota
	q[0], q[1] = 1, projectFlag
	binary.NativeEndian.PutUint16(q[2:], hardAndSoft)
	binary.NativeEndian.PutUint32(q[4:], id)
	blocks := uint64(bytes+511) / 512
	binary.NativeEndian.PutUint64(q[8:], blocks)
	binary.NativeEndian.PutUint64(q[16:], blocks)
	return quotactl(f, setQuota, id, &q)
}
