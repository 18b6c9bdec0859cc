package anchor

import (
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// A Conn is the keeper's side of the fd store. What is put there is given to
// the next keeper; a message that was sent is not lost when its sender dies.
type Conn struct {
	mu   sync.Mutex
	sock int
	lost chan struct{}
}

// Connect takes the descriptor at which the anchor gave us its store and
// returns what a keeper before us left there, by name.
func Connect(sock int) (*Conn, map[string]*os.File, error) {
	unix.CloseOnExec(sock)
	body, oob := make([]byte, maxMessage), make([]byte, unix.CmsgSpace(4*batch))
	kept := make(map[string]*os.File)
	for {
		m, err := receive(sock, body, oob)
		if err != nil {
			return nil, nil, fmt.Errorf("take over from the anchor: %w", err)
		}
		if m.verb == verbGo {
			break
		}
		for i, f := range m.files {
			kept[m.names[i]] = f
		}
	}
	c := &Conn{sock: sock, lost: make(chan struct{})}
	go c.watch()
	return c, kept, nil
}

// watch waits for the anchor's end: it never says anything after the start.
func (c *Conn) watch() {
	body, oob := make([]byte, 64), make([]byte, unix.CmsgSpace(4))
	for {
		if _, err := receive(c.sock, body, oob); err != nil {
			close(c.lost)
			return
		}
	}
}

// Anchor is the pid of the anchor that started this keeper; 0 when that is not
// known (unix(7), SO_PEERCRED of a socket pair is who made it).
func (c *Conn) Anchor() int {
	cred, err := unix.GetsockoptUcred(c.sock, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return 0
	}
	return int(cred.Pid)
}

// Lost is closed when the anchor has died.
func (c *Conn) Lost() <-chan struct{} { return c.lost }

// Put keeps a file under a name, in place of what was there. The file stays
// the caller's too.
func (c *Conn) Put(name string, f *os.File) error {
	return c.send(message{verb: verbPut, names: []string{name}, files: []*os.File{f}})
}

// PutAll keeps several files in one message; at most 64.
func (c *Conn) PutAll(files map[string]*os.File) error {
	m := message{verb: verbPut}
	for name, f := range files {
		m.names = append(m.names, name)
		m.files = append(m.files, f)
	}
	if len(m.files) == 0 {
		return nil
	}
	return c.send(m)
}

// Drop forgets every file whose name begins with one of the prefixes.
func (c *Conn) Drop(prefixes ...string) error {
	return c.send(message{verb: verbDrop, names: prefixes})
}

// Replace makes program what anchor and keeper run from now on: the anchor
// becomes it, in place, when this keeper ends.
func (c *Conn) Replace(program *os.File) error {
	return c.send(message{verb: verbExe, files: []*os.File{program}})
}

// Over has the anchor leave when this keeper ends, even if it is killed: there
// is nothing left that another one could keep. When somebody waits for that end
// and will Sweep the project's groups, the anchor need not leave them first:
// moving a process to another group waits for the kernel for 10 ms.
func (c *Conn) Over(sweeper bool) error {
	m := message{verb: verbOver}
	if sweeper {
		m.names = []string{swept}
	}
	return c.send(m)
}

func (c *Conn) send(m message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := send(c.sock, m); err != nil {
		return fmt.Errorf("tell the anchor to %s: %w", m.verb, err)
	}
	return nil
}
