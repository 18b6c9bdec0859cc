package ops

import (
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/moby/buildkit/solver/pb"
	"golang.org/x/crypto/ssh/agent"
)

// TestAnAgentIsReachedThroughTheStepsSocket asks a real agent for its keys by
// way of the socket that a step gets, several at once.
func TestAnAgentIsReachedThroughTheStepsSocket(t *testing.T) {
	own := filepath.Join(t.TempDir(), "agent")
	l, err := net.Listen("unix", own)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_ = agent.ServeAgent(agent.NewKeyring(), c)
			}()
		}
	}()
	r := &run{}
	path, err := r.forwardAgent(own, &pb.SSHOpt{Uid: uint32(os.Getuid()), Gid: uint32(os.Getgid()), Mode: 0o600})
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the step's socket: %v, %v", st, err)
	}
	var open []net.Conn
	for range 3 {
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, c)
	}
	for _, c := range open {
		if keys, err := agent.NewClient(c).List(); err != nil || len(keys) != 0 {
			t.Errorf("the agent's keys: %v, %v", keys, err)
		}
		c.Close()
	}
	r.close()
	if _, err := os.Stat(filepath.Dir(path)); err == nil {
		t.Error("the step's socket is left")
	}
}
