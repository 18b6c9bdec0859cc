package wire

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// handover bounds how long the next build's keeper may take to answer.
const handover = 40 * time.Second

// settling bounds how long what a killed command began is waited for.
const settling = time.Minute

// Settle returns when nothing is under way any more that makes containers or
// networks or takes them away, and this command's build keeps the project: for
// whoever has the project to itself and is about to look at it.
func (c *Client) Settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settling)
	defer cancel()
	was, err := c.ask(ctx, OpSettle)
	var said *Failure
	if errors.As(err, &said) { // it speaks another protocol
		was, err = c.ask(ctx, OpHello)
	}
	if err != nil {
		return err
	}
	return c.modernise(ctx, was)
}

// modernise has a keeper of another build than this command's hand the project
// over to this one's; containers run on. One that speaks another protocol must
// be able to; one that speaks ours and cannot goes on as it is, and says why in
// keeper.log.
func (c *Client) modernise(ctx context.Context, was Reply) error {
	path, err := FindRuntime()
	if err != nil {
		return err
	}
	if was.Version == Version && sameProgram(was.PID, path) {
		return nil
	}
	err = c.Upgrade(ctx, path)
	var said *Failure
	if was.Version == Version && errors.As(err, &said) {
		return nil
	}
	return err
}

// sameProgram tells whether a process runs the very file at path. What cannot
// be seen counts as the same: nothing is replaced on a guess.
func sameProgram(pid int, path string) bool {
	a, err := os.Stat(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return true
	}
	b, err := os.Stat(path)
	return err != nil || os.SameFile(a, b)
}

// Upgrade makes the program at path the project's anchor and keeper, and
// returns when its keeper answers.
func (c *Client) Upgrade(ctx context.Context, path string) error {
	program, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("upgrade keeper of %s: %w", c.project, err)
	}
	defer program.Close()
	old, err := c.handOver(ctx, program)
	if err != nil {
		return fmt.Errorf("upgrade keeper of %s: %w", c.project, err)
	}
	ctx, cancel := context.WithTimeout(ctx, handover)
	defer cancel()
	for wait := time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		now, err := c.ask(ctx, OpHello)
		if err == nil && now.PID != old {
			return nil
		}
		if err != nil && ctx.Err() != nil {
			return fmt.Errorf("upgrade keeper of %s: the next build's does not answer: %w", c.project, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// handOver asks the keeper to make room and returns its pid.
func (c *Client) handOver(ctx context.Context, program *os.File) (pid int, err error) {
	conn, err := c.take(ctx)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	if err := Send(conn, Request{Version: Version, Op: OpUpgrade}, program); err != nil {
		return 0, err
	}
	var r Reply
	files, err := Receive(conn, &r)
	closeAll(files)
	switch {
	case errors.Is(err, io.EOF):
		return 0, ErrLost
	case err != nil:
		return 0, err
	case r.Error != "":
		return 0, &Failure{Code: r.Code, What: r.Error}
	}
	return r.PID, nil
}

// ask puts a question about the keeper itself.
func (c *Client) ask(ctx context.Context, op string) (r Reply, err error) {
	err = c.Call(ctx, Request{Op: op}, func(got Reply, files []*os.File) error {
		closeAll(files)
		r = got
		return nil
	})
	return r, err
}
