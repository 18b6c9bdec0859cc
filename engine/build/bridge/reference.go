package bridge

import (
	"context"
	"io"
	"io/fs"

	"github.com/moby/buildkit/client/llb"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/moby/patternmatcher"
	fstypes "github.com/tonistiigi/fsutil/types"

	"github.com/davit-run/davit/engine/build/ops"
	"github.com/davit-run/davit/engine/build/scan"
)

// maxRead bounds what the frontend may read of one file: a Dockerfile, an
// ignore file, an image's passwd.
const maxRead = 16 << 20

// A Reference is a solved graph.
type Reference struct {
	ops.Snapshot
	host *ops.Host
	def  *pb.Definition
}

var _ gateway.Reference = (*Reference)(nil)

// ToState gives the graph back.
func (r *Reference) ToState() (llb.State, error) {
	op, err := llb.NewDefinitionOp(r.def)
	if err != nil {
		return llb.State{}, err
	}
	return llb.NewState(op), nil
}

// Evaluate has nothing left to do: a graph is carried out when it is solved.
func (r *Reference) Evaluate(context.Context) error { return nil }

// ReadFile reads a file of the result, links followed.
func (r *Reference) ReadFile(_ context.Context, req gateway.ReadRequest) ([]byte, error) {
	t, done, err := r.host.View(r.Snapshot)
	if err != nil {
		return nil, err
	}
	defer done()
	p, err := scan.Resolve(t, req.Filename, true)
	if err != nil {
		return nil, err
	}
	f, err := t.Open(p)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	limit := int64(maxRead)
	if req.Range != nil {
		if _, err := f.Seek(int64(req.Range.Offset), io.SeekStart); err != nil {
			return nil, err
		}
		if n := int64(req.Range.Length); n > 0 {
			limit = min(n, limit)
		}
	}
	return io.ReadAll(io.LimitReader(f, limit))
}

// StatFile tells of a file of the result.
func (r *Reference) StatFile(_ context.Context, req gateway.StatRequest) (*fstypes.Stat, error) {
	t, done, err := r.host.View(r.Snapshot)
	if err != nil {
		return nil, err
	}
	defer done()
	p, err := scan.Resolve(t, req.Path, false)
	if err != nil {
		return nil, err
	}
	e, err := t.Lstat(p)
	if err != nil {
		return nil, err
	}
	return stat(e), nil
}

// ReadDir lists a directory of the result.
func (r *Reference) ReadDir(_ context.Context, req gateway.ReadDirRequest) ([]*fstypes.Stat, error) {
	t, done, err := r.host.View(r.Snapshot)
	if err != nil {
		return nil, err
	}
	defer done()
	p, err := scan.Resolve(t, req.Path, true)
	if err != nil {
		return nil, err
	}
	children, err := t.Children(p)
	if err != nil {
		return nil, err
	}
	var list []*fstypes.Stat
	for _, e := range children {
		if req.IncludePattern != "" {
			ok, err := patternmatcher.MatchesOrParentMatches(e.Name(), []string{req.IncludePattern})
			if err != nil {
				return nil, err
			}
			if !ok {
				continue
			}
		}
		list = append(list, stat(e))
	}
	return list, nil
}

func stat(e scan.Entry) *fstypes.Stat {
	mode := fs.FileMode(e.Mode & 0o777)
	switch {
	case e.IsDir():
		mode |= fs.ModeDir
	case e.IsLink():
		mode |= fs.ModeSymlink
	}
	return &fstypes.Stat{Path: e.Name(), Mode: uint32(mode), Uid: uint32(e.UID), Gid: uint32(e.GID), Size: e.Size,
		ModTime: e.MTime.Nano(), Linkname: e.Link}
}
