package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/davit-run/davit/engine/keeper/wire"
)

// input passes what a person types on to a container.
type input struct {
	to      *os.File // the container's stdin, or the master of its terminal
	console bool
	keys    []byte // that end it, the container running on
	left    chan struct{}
}

// input reaches a container's standard input. Once makes it end for the
// container when it ends here.
func (s *session) input(ctx context.Context, id string, once bool, keys []byte) (*input, error) {
	c, err := wire.Ensure(ctx, s.engine.Layout(), s.name)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	in := &input{keys: keys, left: make(chan struct{})}
	err = c.Call(ctx, wire.Request{Op: wire.OpAttach, ID: id, Once: once}, func(r wire.Reply, files []*os.File) error {
		for i, f := range files {
			if in.to != nil || i >= len(r.FDs) {
				f.Close()
				continue
			}
			in.to, in.console = f, r.FDs[i] == "console"
		}
		return nil
	})
	return in, err
}

// pass copies from this terminal until its end, or until the keys are typed;
// then left is closed.
func (in *input) pass(from *os.File) {
	if in.to == nil {
		return
	}
	defer in.to.Close()
	buf := make([]byte, 32<<10)
	typed := keySequence{keys: in.keys}
	for {
		n, err := from.Read(buf)
		on, over := typed.take(buf[:n])
		if len(on) > 0 {
			if _, werr := in.to.Write(on); werr != nil {
				return
			}
		}
		if over {
			close(in.left)
			return
		}
		if err != nil {
			if in.console && errors.Is(err, io.EOF) {
				_, _ = in.to.Write([]byte{4}) // what Ctrl-D types
			}
			return
		}
	}
}

// A keySequence looks for the detach keys in what is typed. Those that may be
// the beginning of them are held back until it is clear that they are not.
type keySequence struct {
	keys    []byte
	matched int
}

// take returns what is to be passed on, and whether the keys were typed.
func (k *keySequence) take(typed []byte) (on []byte, over bool) {
	for _, b := range typed {
		if k.matched > 0 && b != k.keys[k.matched] {
			on = append(on, k.keys[:k.matched]...)
			k.matched = 0
		}
		if len(k.keys) > 0 && b == k.keys[k.matched] {
			if k.matched++; k.matched == len(k.keys) {
				return on, true
			}
			continue
		}
		on = append(on, b)
	}
	return on, false
}

// raw hands the terminal's keys through as they are typed, and its size
// whenever that changes, until restore is called.
func (in *input) raw(terminal *os.File) (restore func(), err error) {
	was, err := term.MakeRaw(int(terminal.Fd()))
	if err != nil {
		return nil, err
	}
	in.resize(terminal)
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-changed:
				in.resize(terminal)
			case <-done:
				return
			}
		}
	}()
	return func() {
		signal.Stop(changed)
		close(done)
		_ = term.Restore(int(terminal.Fd()), was)
	}, nil
}

func (in *input) resize(terminal *os.File) {
	if in.to == nil {
		return
	}
	if size, err := unix.IoctlGetWinsize(int(terminal.Fd()), unix.TIOCGWINSZ); err == nil {
		_ = unix.IoctlSetWinsize(int(in.to.Fd()), unix.TIOCSWINSZ, size)
	}
}

// detachKeys reads a key sequence such as ctrl-p,ctrl-q; empty: that one.
func detachKeys(text string) ([]byte, error) {
	if text == "" {
		return []byte{16, 17}, nil
	}
	var out []byte
	for _, word := range splitComma(text) {
		switch {
		case len(word) == 1:
			out = append(out, word[0])
		case len(word) == 6 && word[:5] == "ctrl-" && word[5] >= 'a' && word[5] <= 'z':
			out = append(out, word[5]-'a'+1)
		case len(word) == 6 && word[:5] == "ctrl-" && word[5] >= '@' && word[5] <= '_':
			out = append(out, word[5]-'@')
		default:
			return nil, errors.New("--detach-keys " + text + ": write keys such as ctrl-p,ctrl-q or a single letter")
		}
	}
	return out, nil
}
