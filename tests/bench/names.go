package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"time"

	"github.com/miekg/dns"
)

const (
	questions = 16_000 // that each row asks
	asks      = 1_000  // before it is the other's turn
)

// askerFile is a service that this program itself is brought to.
const askerFile = `services:
  s1:
    image: busybox
    command: sleep 3600
    stop_signal: SIGKILL
    volumes: ['BENCH:/bench:ro']
`

func asked(clients int) string {
	return fmt.Sprintf("%d names asked for by %d at a time", questions, clients)
}

func echoed(clients int) string {
	return fmt.Sprintf("%d packets to a bare UDP echo by %d at a time", questions, clients)
}

func ask1(ctx context.Context, r *runner, dir string) (time.Duration, error) {
	return askInside(ctx, r, dir, 1)
}

func ask16(ctx context.Context, r *runner, dir string) (time.Duration, error) {
	return askInside(ctx, r, dir, 16)
}

// askInside has this program measure in the container, where names are asked for.
func askInside(ctx context.Context, r *runner, dir string, clients int) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, r.words[0], append(r.words[1:len(r.words):len(r.words)], "exec", "-T", "s1", "/bench", "ask", fmt.Sprint(clients))...)
	var errs bytes.Buffer
	cmd.Dir, cmd.Env, cmd.Stderr = dir, r.env, &errs
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("ask for names: %w\n%s", err, errs.Bytes())
	}
	var names, echoes int64
	if _, err := fmt.Sscan(string(out), &names, &echoes); err != nil {
		return 0, fmt.Errorf("ask for names: %q: %w", out, err)
	}
	r.beside = time.Duration(echoes)
	return time.Duration(names), nil
}

// askMain is `bench ask CLIENTS`: it asks the container's resolver for the name
// of its own service and, in turns with it, a bare UDP echo in a process of its
// own, and prints how many nanoseconds each took.
func askMain(clients int) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	server := exec.Command(self, "echo")
	server.Stderr = os.Stderr
	out, err := server.StdoutPipe()
	if err != nil {
		return err
	}
	if err := server.Start(); err != nil {
		return err
	}
	defer func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	}()
	var echo string
	if _, err := fmt.Fscan(out, &echo); err != nil {
		return fmt.Errorf("the echo does not start: %w", err)
	}
	question, err := new(dns.Msg).SetQuestion("s1.", dns.TypeA).Pack()
	if err != nil {
		return err
	}
	resolver := "127.0.0.11:53"
	if err := answers(resolver, question); err != nil {
		return err
	}
	var names, echoes time.Duration
	for range questions / asks {
		for to, sum := range map[string]*time.Duration{resolver: &names, echo: &echoes} {
			took, err := volley(to, question, clients)
			if err != nil {
				return err
			}
			*sum += took
		}
	}
	fmt.Println(names.Nanoseconds(), echoes.Nanoseconds())
	return nil
}

// answers holds that the name is known.
func answers(resolver string, question []byte) error {
	c, err := net.Dial("udp4", resolver)
	if err != nil {
		return err
	}
	defer c.Close()
	buf := make([]byte, 512)
	n, err := exchange(c, question, buf)
	if err != nil {
		return err
	}
	var m dns.Msg
	if err := m.Unpack(buf[:n]); err != nil {
		return err
	}
	if m.Rcode != dns.RcodeSuccess || len(m.Answer) == 0 {
		return fmt.Errorf("the resolver does not know s1: %s", m.String())
	}
	return nil
}

// volley asks so many times, by clients that each wait for their answer.
func volley(to string, question []byte, clients int) (time.Duration, error) {
	conns := make([]net.Conn, clients)
	for i := range conns {
		c, err := net.Dial("udp4", to)
		if err != nil {
			return 0, err
		}
		defer c.Close()
		conns[i] = c
	}
	errs := make([]error, clients)
	var wg sync.WaitGroup
	begun := time.Now()
	for i, c := range conns {
		wg.Go(func() {
			buf := make([]byte, 512)
			for range asks / clients {
				if _, err := exchange(c, question, buf); err != nil {
					errs[i] = err
					return
				}
			}
		})
	}
	wg.Wait()
	return time.Since(begun), errors.Join(errs...)
}

func exchange(c net.Conn, question, answer []byte) (int, error) {
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return 0, err
	}
	if _, err := c.Write(question); err != nil {
		return 0, err
	}
	return c.Read(answer)
}

// echoMain is `bench echo`: it prints where it listens and sends back what comes.
func echoMain() error {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return err
	}
	fmt.Println(c.LocalAddr())
	for buf := make([]byte, 2048); ; {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if _, err := c.WriteToUDPAddrPort(buf[:n], from); err != nil {
			return err
		}
	}
}
