package unit

import (
	"context"
	"errors"
	"os"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
)

// Where systemd listens (org.freedesktop.systemd1(5)): the superuser reaches it
// without a bus between, as systemctl does; the bus is the way its manual tells.
const (
	privateSocket = "unix:path=/run/systemd/private"
	systemBus     = "unix:path=/run/dbus/system_bus_socket"
)

const (
	service          = "org.freedesktop.systemd1"
	managerPath      = "/org/freedesktop/systemd1"
	managerInterface = service + ".Manager"

	unitExists = service + ".UnitExists"
	noSuchUnit = service + ".NoSuchUnit"
)

// A manager is a connection to systemd.
type manager struct {
	conn    *dbus.Conn
	signals chan *dbus.Signal
}

// connect reaches systemd; nothing of it takes longer than ctx.
func connect(ctx context.Context) (*manager, error) {
	m, err := dial(ctx, privateSocket, false)
	if err != nil && ctx.Err() == nil {
		m, err = dial(ctx, systemBus, true)
	}
	return m, err
}

// dial reaches systemd at an address; through a bus, signals must be asked for.
func dial(ctx context.Context, address string, bus bool) (*manager, error) {
	conn, err := dbus.Dial(address, dbus.WithContext(ctx)) // which ends the connection, whatever it is at
	if err != nil {
		return nil, err
	}
	m := &manager{conn: conn, signals: make(chan *dbus.Signal, 64)}
	conn.Signal(m.signals)
	err = conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Geteuid()))})
	switch {
	case err != nil:
	case bus:
		err = m.subscribe(ctx)
	default:
		err = m.knock(ctx)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return m, nil
}

// subscribe asks for the signals that tell of jobs.
func (m *manager) subscribe(ctx context.Context) error {
	if err := m.conn.Hello(); err != nil {
		return err
	}
	if err := m.conn.AddMatchSignalContext(ctx, dbus.WithMatchInterface(managerInterface), dbus.WithMatchMember("JobRemoved")); err != nil {
		return err
	}
	return m.call(ctx, "Subscribe").Err
}

// knock returns when systemd listens. A message that reaches it together with
// the last word of the authentication it leaves lying until another one comes
// (sd-bus of 252, seen), so this one is said again until it is answered.
func (m *manager) knock(ctx context.Context) error {
	answers := make(chan *dbus.Call, 16)
	for wait := 2 * time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		m.conn.Object(service, managerPath).GoWithContext(ctx, "org.freedesktop.DBus.Peer.Ping", 0, answers)
		select {
		case call := <-answers:
			return call.Err
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

func (m *manager) call(ctx context.Context, method string, args ...any) *dbus.Call {
	return m.conn.Object(service, managerPath).CallWithContext(ctx, managerInterface+"."+method, 0, args...)
}

// group is the cgroup of a unit that systemd knows, and whether it is active.
func (m *manager) group(ctx context.Context, name string) (group string, active bool, err error) {
	var unit dbus.ObjectPath
	if err := m.call(ctx, "GetUnit", name).Store(&unit); err != nil {
		return "", false, err
	}
	kind := strings.TrimPrefix(path.Ext(name), ".") // scope or slice
	state, err := m.property(ctx, unit, "Unit", "ActiveState")
	if err != nil {
		return "", false, err
	}
	group, err = m.property(ctx, unit, strings.ToUpper(kind[:1])+kind[1:], "ControlGroup")
	return group, state == "active" && group != "", err
}

func (m *manager) property(ctx context.Context, unit dbus.ObjectPath, kind, name string) (value string, err error) {
	var v dbus.Variant
	err = m.conn.Object(service, unit).CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, service+"."+kind, name).Store(&v)
	if err == nil {
		value, _ = v.Value().(string)
	}
	return value, err
}

func isError(err error, name string) bool {
	var e dbus.Error
	return errors.As(err, &e) && e.Name == name
}
