package journal

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/logs"
)

const (
	maxMessage    = 32 << 10    // bytes of a line that one datagram carries
	forwardAgain  = time.Second // between tries to reach a log that is not there
	rememberEvery = time.Second // how much may be sent twice after a kill
	forwardedName = "forwarded" // number and time of the last line sent, 16 bytes
	facility      = 3 << 3      // daemon, as Docker's
	priorityInfo  = 6
	priorityErr   = 3
)

// A Label says whose lines are forwarded.
type Label struct {
	ID, Name         string // of the container
	Project, Service string
}

// Send sends the log in dir to journald or syslog, from where it stopped the
// last time, and goes on until ctx ends or the log is removed, which both give
// nil. Lines wait in the journal while the receiver is away. After a kill up to
// a second of lines may be sent twice; none is left out, as long as rotation
// keeps it.
func (d Driver) Send(ctx context.Context, dir string, l Label) error {
	if err := d.send(ctx, dir, l); err != nil && ctx.Err() == nil {
		return fmt.Errorf("forward log %s to %s: %w", dir, d.Forward, err)
	}
	return nil
}

func (d Driver) send(ctx context.Context, dir string, l Label) error {
	state, err := os.OpenFile(dir+"/"+forwardedName, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer state.Close()
	seq, at := remembered(state)
	r, err := Open(dir, ReadOptions{Since: at, Tail: -1, Follow: true})
	if err != nil {
		return err
	}
	defer r.Close()
	out := receiver{driver: d, label: l}
	defer out.close()
	var saved time.Time
	var last logs.Line
	defer func() { remember(state, last) }()
	for {
		line, err := r.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if line.Seq <= seq {
			continue // sent before
		}
		if err := out.deliver(ctx, line); err != nil {
			return err
		}
		seq, last = line.Seq, line
		if time.Since(saved) >= rememberEvery {
			saved = time.Now()
			remember(state, last)
		}
	}
}

func remembered(f *os.File) (seq uint64, at time.Time) {
	var b [16]byte
	if _, err := f.ReadAt(b[:], 0); err != nil {
		return 0, time.Time{}
	}
	return binary.LittleEndian.Uint64(b[:]), timeOf(int64(binary.LittleEndian.Uint64(b[8:])))
}

// remember notes the last line sent. A note that cannot be written costs lines
// that are sent twice.
func remember(f *os.File, l logs.Line) {
	if l.Seq == 0 {
		return
	}
	var b [16]byte
	binary.LittleEndian.PutUint64(b[:], l.Seq)
	binary.LittleEndian.PutUint64(b[8:], uint64(l.Time.UnixNano()))
	_, _ = f.WriteAt(b[:], 0)
}

// A receiver is the connection to journald or syslog.
type receiver struct {
	driver Driver
	label  Label
	conn   net.Conn
	buf    bytes.Buffer
}

func (r *receiver) close() {
	if r.conn != nil {
		r.conn.Close()
		r.conn = nil
	}
}

// deliver sends a line in as many messages as it takes, and tries until ctx
// ends.
func (r *receiver) deliver(ctx context.Context, l logs.Line) error {
	for first := true; first || len(l.Text) > 0; first = false {
		part := l
		part.Text = l.Text[:min(len(l.Text), maxMessage)]
		l.Text = l.Text[len(part.Text):]
		for r.try(part) != nil {
			r.close()
			select {
			case <-time.After(forwardAgain):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

func (r *receiver) try(l logs.Line) error {
	if r.conn == nil {
		network, address, err := "unixgram", journaldSocket, error(nil)
		if r.driver.Forward == "syslog" {
			network, address, err = syslogAddress(r.driver.address)
		}
		if err == nil {
			r.conn, err = net.DialTimeout(network, address, 5*time.Second)
		}
		if err != nil {
			return err
		}
	}
	r.buf.Reset()
	if r.driver.Forward == "syslog" {
		r.syslog(l)
	} else {
		r.journald(l)
	}
	_, err := r.conn.Write(r.buf.Bytes())
	return err
}

func priority(l logs.Line) int {
	if l.Stream == logs.Stderr {
		return priorityErr
	}
	return priorityInfo
}

// syslog writes a message of RFC 3164, section 4.1, without a host name, as
// syslog(3) does.
func (r *receiver) syslog(l logs.Line) {
	fmt.Fprintf(&r.buf, "<%d>%s %s: %s\n", facility|priority(l), l.Time.Format(time.Stamp), r.label.Name, l.Text)
}

// journald writes an entry with the fields that Docker's driver gives.
func (r *receiver) journald(l logs.Line) {
	field := func(name, value string) {
		if value != "" {
			fmt.Fprintf(&r.buf, "%s=%s\n", name, value)
		}
	}
	field("PRIORITY", fmt.Sprint(priority(l)))
	field("SYSLOG_IDENTIFIER", r.label.Name)
	field("CONTAINER_ID_FULL", r.label.ID)
	field("CONTAINER_ID", r.label.ID[:min(12, len(r.label.ID))])
	field("CONTAINER_NAME", r.label.Name)
	field("COM_DOCKER_COMPOSE_PROJECT", r.label.Project)
	field("COM_DOCKER_COMPOSE_SERVICE", r.label.Service)
	field("SYSLOG_TIMESTAMP", l.Time.Format(time.RFC3339Nano))
	r.buf.WriteString("MESSAGE=")
	r.buf.Write(l.Text)
	r.buf.WriteByte('\n')
}
