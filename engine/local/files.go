package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/keeper/wire"
	"github.com/davit-run/davit/engine/layer"
	"github.com/davit-run/davit/engine/store/inroot"
)

// A View says which of a container's files are looked at.
type View string

// The views, as davit-runtime calls them.
const (
	ImageFiles View = "image"  // what its image has
	OwnFiles   View = "layers" // with what it wrote; volumes and binds left out
	SeenFiles  View = "read"   // as the container sees them
	WriteFiles View = "write"  // the same, to be written to
)

// Files opens the files of a container as a root that nothing leads out of.
// Those of one that runs are its own, seen through its first process; for
// another the root stands until done is called. Whoever writes to one that
// does not run holds the project's lock.
func (e *Engine) Files(ctx context.Context, c engine.Snapshot, v View) (root *inroot.Root, done func(), err error) {
	runs := c.State.Status == engine.Running || c.State.Status == engine.Paused
	if runs && (v == SeenFiles || v == WriteFiles) {
		root, err := e.living(c)
		if err != nil {
			return nil, nil, err
		}
		return root, func() { root.Close() }, nil
	}
	if v == WriteFiles {
		if c.State.Status == engine.Restarting {
			return nil, nil, fmt.Errorf("container %s is about to be started again: stop it first, or try again when it runs", c.Name)
		}
		root, _, done, err = e.FilesBefore(ctx, c)
		return root, done, err
	}
	root, _, done, err = e.standing(ctx, c, v)
	return root, done, err
}

// FilesBefore opens the files of a container that does not run, to be written to
// before it is started, and says who it will run as. The caller holds the
// project's lock.
func (e *Engine) FilesBefore(ctx context.Context, c engine.Snapshot) (root *inroot.Root, as layer.Owner, done func(), err error) {
	if err := e.rest(ctx, c.Project, c.ID); err != nil {
		return nil, as, nil, fmt.Errorf("open files of %s: %w", c.Name, err)
	}
	return e.standing(ctx, c, WriteFiles)
}

// rest has a keeper take back what it has begun of a container's start: two mounts
// of what the container writes would not see each other's changes (overlayfs of
// the kernel, "changes to underlying filesystems").
func (e *Engine) rest(ctx context.Context, project, id string) error {
	c, err := wire.Dial(ctx, e.layout, project)
	if err == nil {
		err = c.Call(ctx, wire.Request{Op: wire.OpRest, ID: id}, nil)
		c.Close()
	}
	var no *wire.Failure
	if errors.Is(err, wire.ErrNoKeeper) || errors.As(err, &no) && no.Code == "refused" {
		return nil // one of an older build begins no starts by itself
	}
	return err
}

// living is the root of a container's first process. The process is held
// against its record after its root was opened: the number may be another's.
func (e *Engine) living(c engine.Snapshot) (*inroot.Root, error) {
	root, err := inroot.Open("/proc/" + strconv.Itoa(c.State.PID) + "/root")
	if err != nil {
		return nil, fmt.Errorf("open files of %s: %w", c.Name, err)
	}
	if !alive(c.State.PID, c.State.StartTicks) {
		root.Close()
		return nil, fmt.Errorf("open files of %s: it ended just now; try again", c.Name)
	}
	return root, nil
}

// standing asks a davit-runtime to stand a view up and keep it.
func (e *Engine) standing(ctx context.Context, c engine.Snapshot, v View) (root *inroot.Root, as layer.Owner, done func(), err error) {
	program, err := wire.FindRuntime()
	if err != nil {
		return nil, as, nil, err
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, as, nil, os.NewSyscallError("socketpair", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "view"), os.NewFile(uintptr(pair[1]), "view")
	cmd := exec.CommandContext(ctx, program, "view", e.layout.Data, e.layout.Run, c.Project, c.ID, string(v))
	cmd.Dir, cmd.Env = "/", []string{}
	cmd.ExtraFiles = []*os.File{theirs}
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		ours.Close()
		return nil, as, nil, fmt.Errorf("open files of %s: %w", c.Name, err)
	}
	end := func() {
		ours.Close() // the other end then ends too
		_ = cmd.Wait()
	}
	dir, word, err := receiveDir(pair[0])
	if err != nil {
		end()
		return nil, as, nil, fmt.Errorf("open files of %s: %w", c.Name, err)
	}
	if _, err := fmt.Sscanf(word, "%d:%d", &as.UID, &as.GID); err != nil {
		as = layer.Owner{}
	}
	root = inroot.New(dir)
	return root, as, func() { root.Close(); end() }, nil
}

// receiveDir takes the descriptor of a directory from a socket with the word
// that comes with it, or the reason why there is none.
func receiveDir(socket int) (dir *os.File, word string, err error) {
	b, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
	n, oobn, _, _, err := unix.Recvmsg(socket, b, oob, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return nil, "", os.NewSyscallError("recvmsg", err)
	}
	if n == 0 {
		return nil, "", io.ErrUnexpectedEOF
	}
	if oobn == 0 {
		return nil, "", errors.New(string(b[:n]))
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil || len(messages) != 1 {
		return nil, "", errors.New("no descriptor came")
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, "", errors.New("no descriptor came")
	}
	return os.NewFile(uintptr(fds[0]), "/"), string(b[:n]), nil
}
