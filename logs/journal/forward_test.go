package journal

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/davit-run/davit/logs"
)

func TestForwardGoesOnWhereItStopped(t *testing.T) {
	dir := t.TempDir()
	w := wr(t, dir, Options{})
	socket := filepath.Join(t.TempDir(), "log")
	in, err := net.ListenPacket("unixgram", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	d, err := DriverFor("syslog", map[string]string{"syslog-address": "unixgram://" + socket})
	if err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		pour(t, w, logs.Stdout, func(w io.Writer) { fmt.Fprintf(w, "round %d\n", round) })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- d.Send(ctx, dir, Label{Name: "web-1"}) }()
		if got := received(t, in); !strings.HasPrefix(got, "<30>") || !strings.HasSuffix(got, fmt.Sprintf(" web-1: round %d\n", round)) {
			t.Errorf("round %d: syslog got %q", round, got)
		}
		pour(t, w, logs.Stderr, func(w io.Writer) { fmt.Fprintf(w, "error %d\n", round) })
		if got := received(t, in); !strings.HasPrefix(got, "<27>") || !strings.HasSuffix(got, fmt.Sprintf(" web-1: error %d\n", round)) {
			t.Errorf("round %d: syslog got %q", round, got)
		}
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

func received(t *testing.T, in net.PacketConn) string {
	t.Helper()
	b := make([]byte, 64<<10)
	in.SetReadDeadline(time.Now().Add(time.Minute))
	n, _, err := in.ReadFrom(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

// Journald gets an entry for each line, with the fields that Docker's driver
// gives; where there is no journald the driver is refused.
func TestJournaldGetsDockersFields(t *testing.T) {
	real := journaldSocket
	defer func() { journaldSocket = real }()
	journaldSocket = filepath.Join(t.TempDir(), "socket")
	if _, err := DriverFor("journald", nil); err == nil || !strings.Contains(err.Error(), "there is no systemd-journald") {
		t.Errorf("without journald: %v", err)
	}
	in, err := net.ListenPacket("unixgram", journaldSocket)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	d, err := DriverFor("journald", nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	w := wr(t, dir, Options{})
	pour(t, w, logs.Stderr, func(w io.Writer) { io.WriteString(w, "PRIORITY=0 is text\n") })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- d.Send(ctx, dir, Label{ID: "0123456789abcdef", Name: "p-web-1", Project: "p", Service: "web"})
	}()
	lines := strings.Split(strings.TrimSuffix(received(t, in), "\n"), "\n")
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	stamp := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "SYSLOG_TIMESTAMP=20") })
	if stamp < 0 {
		t.Fatalf("no time in %q", lines)
	}
	equal(t, slices.Delete(lines, stamp, stamp+1), "PRIORITY=3", "SYSLOG_IDENTIFIER=p-web-1", "CONTAINER_ID_FULL=0123456789abcdef",
		"CONTAINER_ID=0123456789ab", "CONTAINER_NAME=p-web-1", "COM_DOCKER_COMPOSE_PROJECT=p", "COM_DOCKER_COMPOSE_SERVICE=web",
		"MESSAGE=PRIORITY=0 is text")
}

func TestLoggingDrivers(t *testing.T) {
	if d, err := DriverFor("local", map[string]string{"max-size": "1m"}); err != nil || !d.Keep || d.Forward != "" || d.Options.MaxSize != 1<<20 {
		t.Errorf("local is %+v, %v", d, err)
	}
	if d, err := DriverFor("none", nil); err != nil || d.Keep {
		t.Errorf("none is %+v, %v", d, err)
	}
	if _, err := DriverFor("fluentd", nil); err == nil || !strings.Contains(err.Error(), "json-file") {
		t.Errorf("fluentd gives %v", err)
	}
	for address, want := range map[string]string{
		"udp://1.2.3.4:1234": "udp 1.2.3.4:1234",
		"tcp://log.example":  "tcp log.example:514",
		"udp://[::1]":        "udp [::1]:514",
		"unix:///run/x":      "unix /run/x",
	} {
		network, where, err := syslogAddress(address)
		if got := network + " " + where; err != nil || got != want {
			t.Errorf("%s is %q, %v", address, got, err)
		}
	}
	if _, err := DriverFor("syslog", map[string]string{"syslog-address": "ftp://x"}); err == nil {
		t.Error("syslog over ftp was taken")
	}
}
