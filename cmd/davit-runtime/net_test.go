package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/keeper/wire"
	"github.com/davit-run/davit/engine/store"
)

// network records a network and has it stand.
func (l *lab) network(name string) string {
	l.t.Helper()
	full := l.project + "_" + name
	l.must(os.MkdirAll(l.layout.Network(full), 0o710))
	l.must(store.Write(filepath.Join(l.layout.Network(full), "network.json"),
		engine.Network{Name: full, ID: full + "id", Project: l.project, Created: time.Now()}))
	if _, err := l.call(wire.Request{Op: wire.OpNetwork, Network: full}); err != nil {
		l.t.Fatalf("network: %v", err)
	}
	return full
}

// on puts a container on a network under an alias.
func on(network, alias string) func(*engine.Container) {
	return func(c *engine.Container) {
		c.Spec.NetworkMode = ""
		c.Spec.Endpoints = []engine.EndpointSpec{{Network: network, Aliases: []string{alias}}}
	}
}

// get asks for / over HTTP from the lab's network, where this thread is, and
// returns the body of the answer.
func get(port uint16) (string, error) {
	c, err := net.DialTimeout("tcp4", fmt.Sprintf("127.0.0.1:%d", port), time.Minute)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(c, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return "", err
	}
	b, err := io.ReadAll(c)
	_, body, _ := strings.Cut(string(b), "\r\n\r\n")
	return body, err
}

func TestNamesAndPortsAnswerThroughRestartsAndAKilledKeeper(t *testing.T) {
	l := newLab(t)
	n := l.network("default")
	const port = 18090
	serve := "mkdir -p /www; echo page > /www/index.html; httpd -f -p 80 -h /www"
	web := l.create("web", serve, on(n, "web"), func(c *engine.Container) {
		c.Spec.Ports = []engine.Port{{HostPort: port, ContainerPort: 80, Protocol: "tcp"}}
		c.Spec.Restart = engine.RestartPolicy{Mode: "always"}
	})
	asker := l.create("asker", "while :; do wget -q -O - http://web/ && sleep 1000; sleep 0.1; done", on(n, "asker"))
	r := l.do(wire.OpStart, web)
	address := r.State.Endpoints[0].IPv4
	if len(r.State.Ports) == 0 || r.State.Ports[0].HostPort != port {
		t.Fatalf("ports %+v", r.State.Ports)
	}
	answers := func() bool { body, err := get(port); return err == nil && body == "page\n" }
	l.eventually("the published port answers", answers)
	l.do(wire.OpStart, asker)
	l.eventually("the name answers", func() bool { return strings.Contains(l.output(asker), "page") })
	hosts, err := os.ReadFile(filepath.Join(l.layout.Container(l.project, web.ID), "hosts"))
	if err != nil || !strings.Contains(string(hosts), strings.Split(address, "/")[0]) {
		t.Fatalf("hosts %s %v", hosts, err)
	}

	pid := r.State.PID
	l.must(unix.Kill(pid, unix.SIGKILL))
	l.eventually("it was started again", func() bool { s := l.state(web); return s.Restarts == 1 && s.Status == engine.Running })
	if s := l.state(web); s.Endpoints[0].IPv4 != address || s.ExitCode != 0 {
		t.Fatalf("after the restart: %+v, address was %s", s, address)
	}
	l.eventually("the published port answers after a restart", answers)

	l.withoutKeeper(func() {
		if !answers() {
			t.Error("the published port does not answer without a keeper")
		}
	})
	l.halt(asker)
	l.do(wire.OpStart, asker)
	l.eventually("the name answers the next keeper", func() bool { return strings.Count(l.output(asker), "page") == 2 })

	other := l.create("other", "sleep 1000", on(n, "other"), func(c *engine.Container) {
		c.Spec.Ports = []engine.Port{{HostPort: port, ContainerPort: 80, Protocol: "tcp"}}
	})
	_, err = l.call(wire.Request{Op: wire.OpStart, ID: other.ID})
	if f, ok := err.(*wire.Failure); !ok || f.Code != "port-taken" {
		t.Fatalf("a taken port: %v", err)
	}
	t.Logf("taken port: %v", err)
	l.halt(web)
	if answers() {
		t.Error("the port answers though its container is stopped")
	}
	l.do(wire.OpStart, other)
}

func TestANetworkNamespaceIsShared(t *testing.T) {
	l := newLab(t)
	n := l.network("default")
	a := l.create("a", "httpd -f -p 80 -h /", on(n, "a"))
	l.do(wire.OpStart, a)
	b := l.create("b", "echo up > /flag; while ! wget -q -O - http://127.0.0.1/bin/cat > /dev/null; do sleep 0.1; done; echo reached; hostname", func(c *engine.Container) {
		c.Spec.NetworkMode = "container:" + a.ID
	})
	l.do(wire.OpStart, b)
	l.do(wire.OpWait, b)
	if out := l.output(b); !strings.Contains(out, "reached") {
		t.Fatalf("output %q", out)
	}
}

func TestADamagedRecordIsNamedAndCanBeRemoved(t *testing.T) {
	l := newLab(t)
	n := l.network("default")
	c := l.create("a", "sleep 1000", on(n, "a"))
	l.do(wire.OpStart, c)
	l.withoutKeeper(func() {
		dir := l.layout.Container(l.project, c.ID)
		for _, f := range []string{"container.json", "container.json~", "state.json", "state.json~"} {
			_ = os.Remove(filepath.Join(dir, f))
			l.must(os.WriteFile(filepath.Join(dir, f), []byte("garbage"), 0o600))
		}
		l.must(unix.Kill(l.processes()["anchor"], unix.SIGKILL))
	})
	_, err := l.call(wire.Request{Op: wire.OpStop, ID: c.ID})
	if err == nil || !strings.Contains(err.Error(), "container.json") {
		t.Fatalf("stop with a damaged record: %v", err)
	}
	l.do(wire.OpRemove, c)
}
