package ops

import (
	"io/fs"
	"os"
	"path"

	"github.com/moby/buildkit/solver/pb"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/build/scan"
	"github.com/davit-run/davit/engine/store/inroot"
)

func (o *fileOp) mkdir(in []Snapshot, a *pb.FileActionMkDir, root *inroot.Root) error {
	uid, gid, err := o.owner(in, a.Owner)
	if err != nil {
		return err
	}
	made := func(dir *os.File, p string) error {
		return setOwnerTime(root, p, uid, gid, timeOf(a.Timestamp))
	}
	if !a.MakeParents {
		if _, err := root.Stat(path.Dir(scan.Clean(a.Path))); err != nil {
			return err
		}
	}
	return root.MkdirAll(a.Path, uint32(a.Mode)&0o7777, made)
}

func (o *fileOp) mkfile(in []Snapshot, a *pb.FileActionMkFile, root *inroot.Root) error {
	uid, gid, err := o.owner(in, a.Owner)
	if err != nil {
		return err
	}
	if err := root.RemoveAll(a.Path); err != nil {
		return err
	}
	f, err := root.OpenFile(a.Path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(a.Data); err != nil {
		return err
	}
	if err := setOwnerTime(root, a.Path, uid, gid, timeOf(a.Timestamp)); err != nil {
		return err
	}
	return unix.Fchmod(int(f.Fd()), uint32(a.Mode)&0o7777)
}

func (o *fileOp) symlink(in []Snapshot, a *pb.FileActionSymlink, root *inroot.Root) error {
	uid, gid, err := o.owner(in, a.Owner)
	if err != nil {
		return err
	}
	dir, base, err := root.Parent(a.Newpath)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := unix.Symlinkat(a.Oldpath, int(dir.Fd()), base); err != nil {
		return &fs.PathError{Op: "symlink", Path: a.Newpath, Err: err}
	}
	return setOwnerTime(root, a.Newpath, uid, gid, timeOf(a.Timestamp))
}

func rm(a *pb.FileActionRm, root *inroot.Root) error {
	list := []string{a.Path}
	if a.AllowWildcard {
		found, err := scan.Glob(scan.NewStack(root), a.Path, false)
		if err != nil {
			return err
		}
		list = found
	}
	for _, p := range list {
		if _, err := root.Lstat(p); err != nil && !a.AllowNotFound {
			return err
		}
		if err := root.RemoveAll(p); err != nil {
			return err
		}
	}
	return nil
}

func setOwnerTime(root *inroot.Root, p string, uid, gid *int, when *unix.Timespec) error {
	dir, base, err := root.Parent(p)
	if err != nil {
		return err
	}
	defer dir.Close()
	u, g := 0, 0
	if uid != nil {
		u = *uid
	}
	if gid != nil {
		g = *gid
	}
	if err := unix.Fchownat(int(dir.Fd()), base, u, g, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	if when == nil {
		return nil
	}
	return unix.UtimesNanoAt(int(dir.Fd()), base, []unix.Timespec{*when, *when}, unix.AT_SYMLINK_NOFOLLOW)
}
