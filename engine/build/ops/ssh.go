package ops

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"

	"github.com/moby/buildkit/solver/pb"
)

// forwardAgent makes a socket of the owner and mode that a mount asks for, and
// leads it to an agent until the step ends: the agent's own socket is for its
// user alone.
func (r *run) forwardAgent(agent string, o *pb.SSHOpt) (string, error) {
	dir, err := os.MkdirTemp("", "davit-agent-")
	if err != nil {
		return "", err
	}
	r.tmp = append(r.tmp, dir)
	path := filepath.Join(dir, "socket")
	l, err := net.Listen("unix", path)
	if err != nil {
		return "", err
	}
	r.ends = append(r.ends, func() { l.Close() })
	if err := os.Chown(path, int(o.Uid), int(o.Gid)); err != nil {
		return "", err
	}
	if err := os.Chmod(path, os.FileMode(o.Mode)&os.ModePerm); err != nil {
		return "", err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go carry(c, agent)
		}
	}()
	return path, nil
}

// carry copies one conversation between a step and an agent.
func carry(c net.Conn, agent string) {
	defer c.Close()
	a, err := new(net.Dialer).DialContext(context.Background(), "unix", agent)
	if err != nil {
		return
	}
	defer a.Close()
	go func() {
		_, _ = io.Copy(a, c)
		_ = a.(*net.UnixConn).CloseWrite()
	}()
	_, _ = io.Copy(c, a)
}
