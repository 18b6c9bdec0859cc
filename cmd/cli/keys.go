package cli

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/cmd/render"
)

// keys passes on what is typed at the terminal, key by key and without echo,
// until restore is called. Without a terminal in front nothing is ever typed.
func (g *globals) keys(menu bool) (typed <-chan byte, restore func()) {
	none := func() {}
	if !menu || render.InCI() || !isTerminal(g.in) || !isTerminal(g.out) || !foremost(g.in) {
		return nil, none
	}
	was, err := unix.IoctlGetTermios(int(g.in.Fd()), unix.TCGETS)
	if err != nil {
		return nil, none
	}
	single := *was
	single.Lflag &^= unix.ICANON | unix.ECHO
	single.Cc[unix.VMIN], single.Cc[unix.VTIME] = 1, 0
	set := func(to *unix.Termios) { _ = unix.IoctlSetTermios(int(g.in.Fd()), unix.TCSETS, to) }
	set(&single)
	again := make(chan os.Signal, 1)
	signal.Notify(again, syscall.SIGCONT)
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-again: // the shell had the terminal meanwhile
				set(&single)
			case <-done:
				return
			}
		}
	}()
	keys := make(chan byte)
	go readKeys(g.in, keys, done)
	return keys, func() {
		signal.Stop(again)
		close(done)
		set(was)
	}
}

func readKeys(from *os.File, keys chan<- byte, done <-chan struct{}) {
	for b := make([]byte, 1); ; {
		if n, err := from.Read(b); n == 0 || err != nil {
			return
		}
		select {
		case keys <- b[0]:
		case <-done:
			return
		}
	}
}

// foremost says whether this process may read the terminal: a job in the
// background would be stopped for trying.
func foremost(terminal *os.File) bool {
	group, err := unix.IoctlGetInt(int(terminal.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}
