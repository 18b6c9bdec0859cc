package journal

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
)

// journaldSocket takes entries in the native protocol, see
// https://systemd.io/JOURNAL_NATIVE_PROTOCOL. Tests have one of their own.
var journaldSocket = "/run/systemd/journal/socket"

// A Driver is what a service's logging section asks for.
type Driver struct {
	Options Options
	Keep    bool   // false: the driver is none, see Discard
	Forward string // journald or syslog: lines go there, too, see Send; else empty
	address string // of syslog
}

// DriverFor reads a service's logging driver and options. Json-file and local
// (and an empty name) are the journal itself; journald and syslog get what the
// journal has, provided they are there; other drivers are an error.
func DriverFor(name string, options map[string]string) (Driver, error) {
	o, err := OptionsFor(options)
	if err != nil {
		return Driver{}, err
	}
	d := Driver{Options: o, Keep: true}
	switch name {
	case "", "json-file", "local":
	case "none":
		d.Keep = false
	case "journald":
		d.Forward = name
		if _, err := os.Stat(journaldSocket); err != nil {
			return d, fmt.Errorf("logging driver journald: there is no systemd-journald on this host (%w)", err)
		}
	case "syslog":
		d.Forward, d.address = name, options["syslog-address"]
		if _, _, err := syslogAddress(d.address); err != nil {
			return d, fmt.Errorf("logging driver syslog: %w", err)
		}
	default:
		return d, fmt.Errorf("logging driver %q is not known here: use json-file, local, none, journald or syslog", name)
	}
	return d, nil
}

// syslogAddress reads syslog-address as Docker has it: empty for the host's own,
// or unix://, unixgram://, udp:// or tcp:// with a path or host:port.
func syslogAddress(address string) (network, where string, err error) {
	if address == "" {
		for _, path := range []string{"/dev/log", "/var/run/syslog", "/var/run/log"} {
			if _, err := os.Stat(path); err == nil {
				return "unixgram", path, nil
			}
		}
		return "", "", fmt.Errorf("there is no syslog on this host (/dev/log); name one by the option syslog-address")
	}
	u, err := url.Parse(address)
	if err != nil {
		return "", "", fmt.Errorf("syslog-address: %w", err)
	}
	switch u.Scheme {
	case "unix", "unixgram":
		return u.Scheme, u.Path, nil
	case "udp", "tcp":
		if u.Port() == "" {
			return u.Scheme, net.JoinHostPort(strings.Trim(u.Host, "[]"), "514"), nil
		}
		return u.Scheme, u.Host, nil
	}
	return "", "", fmt.Errorf("syslog-address: %q is not unix://, unixgram://, udp:// or tcp://", address)
}
