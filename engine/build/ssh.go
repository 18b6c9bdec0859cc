package build

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// agents turns what RUN --mount=type=ssh may use into agent sockets: an
// agent's own, or one that knows a private key until quit is called.
func agents(from map[string]string) (sockets map[string]string, quit func(), err error) {
	sockets = make(map[string]string, len(from))
	var undo []func()
	quit = func() {
		for _, f := range undo {
			f()
		}
	}
	for id, where := range from {
		if where == "" {
			return nil, quit, fmt.Errorf("ssh %s: no agent runs; start one (SSH_AUTH_SOCK), or name a key: %s=PATH", id, id)
		}
		st, err := os.Stat(where)
		if err != nil {
			return nil, quit, fmt.Errorf("ssh %s: %w", id, err)
		}
		if st.Mode().Type() == os.ModeSocket {
			sockets[id] = where
			continue
		}
		socket, end, err := keyAgent(where)
		if err != nil {
			return nil, quit, fmt.Errorf("ssh %s: %w", id, err)
		}
		undo = append(undo, end)
		sockets[id] = socket
	}
	return sockets, quit, nil
}

// keyAgent serves one private key as an agent.
func keyAgent(path string) (socket string, end func(), err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", nil, err
	}
	key, err := ssh.ParseRawPrivateKey(b)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		return "", nil, fmt.Errorf("key %s has a passphrase: add it to an agent, and give that", path)
	}
	if err != nil {
		return "", nil, fmt.Errorf("key %s: %w", path, err)
	}
	ring := agent.NewKeyring()
	if err := ring.Add(agent.AddedKey{PrivateKey: key}); err != nil {
		return "", nil, fmt.Errorf("key %s: %w", path, err)
	}
	dir, err := os.MkdirTemp("", "davit-ssh-")
	if err != nil {
		return "", nil, err
	}
	socket = filepath.Join(dir, "agent")
	l, err := net.Listen("unix", socket)
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_ = agent.ServeAgent(ring, c)
			}()
		}
	}()
	return socket, func() { l.Close(); _ = os.RemoveAll(dir) }, nil
}
