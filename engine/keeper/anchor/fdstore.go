package anchor

import (
	"maps"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// fdstore keeps descriptors by name.
type fdstore map[string]int

// apply does what a message asks for; whatever it cannot use it closes.
func (s fdstore) apply(m message) {
	switch m.verb {
	case verbPut:
		for i, f := range m.files {
			if i < len(m.names) {
				s.put(m.names[i], detach(f))
			} else {
				f.Close()
			}
		}
	case verbDrop:
		for _, prefix := range m.names {
			s.drop(prefix)
		}
	}
}

// detach takes the descriptor out of an os.File, whose finalizer would close it.
func detach(f *os.File) int {
	fd, err := number(f)
	if err != nil {
		return -1
	}
	kept, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 10)
	f.Close()
	if err != nil {
		return -1
	}
	return kept
}

func (s fdstore) put(name string, fd int) {
	if fd < 0 {
		return
	}
	if old, ok := s[name]; ok {
		unix.Close(old)
	}
	s[name] = fd
}

func (s fdstore) drop(prefix string) {
	for name, fd := range s {
		if strings.HasPrefix(name, prefix) {
			unix.Close(fd)
			delete(s, name)
		}
	}
}

// give sends everything kept to a new keeper.
func (s fdstore) give(sock int) error {
	names := slices.Sorted(maps.Keys(s))
	for part := range slices.Chunk(names, batch) {
		fds := make([]int, len(part))
		for i, name := range part {
			fds[i] = s[name]
		}
		body := strings.Join(append([]string{verbHave}, part...), "\n")
		if err := unix.Sendmsg(sock, []byte(body), unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL); err != nil {
			return err
		}
	}
	return send(sock, message{verb: verbGo})
}
