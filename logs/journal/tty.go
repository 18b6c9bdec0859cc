package journal

import (
	"context"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/logs"
)

// PumpConsole takes what a terminal prints: from the pty's master to the pipe
// pw, from its other end pr to the file, both by splice(2), so that a killed
// keeper leaves every byte in the pty, in the pipe or in the file. The pipe is
// the caller's, who keeps it where it outlives this process. The terminal ends
// when its last user has closed it (EIO); that, and the end of ctx, give nil.
//
// The master becomes non-blocking, for everyone who has it.
func (w *Writer) PumpConsole(ctx context.Context, master, pr, pw *os.File) error {
	if err := w.pumpConsole(ctx, master, pr, pw); err != nil {
		return fmt.Errorf("take console into log %s: %w", w.dir, err)
	}
	return nil
}

func (w *Writer) pumpConsole(ctx context.Context, master, pr, pw *os.File) error {
	tty, err := newInlet(master, duplicate)
	if err != nil {
		return err
	}
	defer tty.close()
	pipe, err := duplicate(pw)
	if err != nil {
		return err
	}
	defer unix.Close(pipe)
	p, err := w.newPump(logs.Console, pr)
	if err != nil {
		return err
	}
	defer p.close()
	c := console{tty: tty, pipe: pipe, out: p}
	return c.run(ctx)
}

// A console is a terminal on its way to the file. One goroutine does both
// steps, so the pipe is empty whenever it waits for the terminal.
type console struct {
	tty  *inlet
	pipe int
	out  *pump
}

func (c *console) run(ctx context.Context) error {
	for {
		if err := c.empty(); err != nil {
			return err
		}
		_ = unix.SetNonblock(c.tty.fd, true) // others have the same open file
		n, err := splice(c.tty.fd, c.pipe, nil, maxChunk)
		switch {
		case err == unix.EAGAIN:
			if !c.tty.wait(ctx, c.out.w.done) {
				return nil
			}
			c.out.gather(true)
		case err == unix.EIO, err == nil && n == 0:
			return nil
		case err != nil:
			return err
		}
	}
}

// empty moves what the pipe has into the file.
func (c *console) empty() error {
	for {
		n, err := c.out.take()
		switch {
		case err == unix.EAGAIN, err == nil && n == 0:
			return nil
		case err == errFull:
			time.Sleep(fullRetry)
		case err != nil:
			return err
		}
	}
}
