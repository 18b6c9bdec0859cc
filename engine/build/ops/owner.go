package ops

import (
	"bytes"
	"fmt"
	"io"

	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/sys/user"

	"github.com/davit-run/davit/engine/build/scan"
)

type copyAction = *pb.FileActionCopy

// maxPasswd bounds a passwd or group file (CVE-2026-47262: a file of gigabytes,
// or a device, in its place).
const maxPasswd = 16 << 20

func owner(a *pb.FileAction) *pb.ChownOpt {
	switch x := a.Action.(type) {
	case *pb.FileAction_Copy:
		return x.Copy.Owner
	case *pb.FileAction_Mkfile:
		return x.Mkfile.Owner
	case *pb.FileAction_Mkdir:
		return x.Mkdir.Owner
	case *pb.FileAction_Symlink:
		return x.Symlink.Owner
	}
	return nil
}

// ownerFiles are the files that the names of an owner are looked up in, when
// they are looked up in the given input.
func ownerFiles(o *pb.ChownOpt, input int) []string {
	var files []string
	if n := o.GetUser().GetByName(); n != nil && int(n.Input) == input {
		files = append(files, "/etc/passwd")
	}
	if n := o.GetGroup().GetByName(); n != nil && int(n.Input) == input {
		files = append(files, "/etc/group")
	}
	return files
}

// owner looks up the owner that an action asks for; nil where it asks for none.
func (o *fileOp) owner(in []Snapshot, c *pb.ChownOpt) (uid, gid *int, err error) {
	if c == nil {
		return nil, nil, nil
	}
	uid, primary, err := o.userID(in, c.User)
	if err != nil {
		return nil, nil, err
	}
	gid, err = o.groupID(in, c.Group)
	if err != nil {
		return nil, nil, err
	}
	if gid == nil {
		gid = primary
	}
	return uid, gid, nil
}

func (o *fileOp) userID(in []Snapshot, u *pb.UserOpt) (uid, gid *int, err error) {
	if u == nil || u.User == nil {
		return nil, nil, nil
	}
	n := u.GetByName()
	if n == nil {
		id := int(u.GetByID())
		return &id, &id, nil
	}
	b, err := o.lookup(in, int(n.Input), "/etc/passwd")
	if err != nil {
		return nil, nil, err
	}
	found, err := user.ParsePasswdFilter(bytes.NewReader(b), func(x user.User) bool { return x.Name == n.Name })
	if err != nil {
		return nil, nil, err
	}
	if len(found) == 0 {
		return nil, nil, fmt.Errorf("owner %q: no such user in the image's /etc/passwd", n.Name)
	}
	return &found[0].Uid, &found[0].Gid, nil
}

func (o *fileOp) groupID(in []Snapshot, g *pb.UserOpt) (*int, error) {
	if g == nil || g.User == nil {
		return nil, nil
	}
	n := g.GetByName()
	if n == nil {
		id := int(g.GetByID())
		return &id, nil
	}
	b, err := o.lookup(in, int(n.Input), "/etc/group")
	if err != nil {
		return nil, err
	}
	found, err := user.ParseGroupFilter(bytes.NewReader(b), func(x user.Group) bool { return x.Name == n.Name })
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("owner group %q: no such group in the image's /etc/group", n.Name)
	}
	return &found[0].Gid, nil
}

func (o *fileOp) lookup(in []Snapshot, input int, name string) ([]byte, error) {
	if input < 0 || input >= len(in) {
		return nil, fmt.Errorf("owner: there is no image to look names up in")
	}
	t, done, err := o.host.View(in[input])
	if err != nil {
		return nil, err
	}
	defer done()
	return readTree(t, name, maxPasswd)
}

// readTree reads a file of a tree, links followed, refusing more than limit
// bytes.
func readTree(t scan.Tree, name string, limit int64) ([]byte, error) {
	p, err := scan.Resolve(t, name, true)
	if err != nil {
		return nil, err
	}
	f, err := t.Open(p)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("read %s: larger than %d bytes", name, limit)
	}
	return b, err
}
