package unit

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/davit-run/davit/engine/keeper/anchor"
)

// A Scope is a unit around processes that systemd has not started itself
// (systemd.scope(5)).
type Scope struct {
	Name        string // such as davit-shop.scope
	Description string // what systemctl status says it is
	PIDs        []int  // whom it is made of
}

// Ensure has systemd make the scope, with its cgroup delegated, and returns the
// path of that group from the root of the hierarchies. A scope of that name
// that is there already, because containers of the project run in it, does as
// well; the processes are then not in it yet. It takes as long as ctx allows
// while one of that name is on its way out.
func Ensure(ctx context.Context, s Scope) (group string, err error) {
	m, err := connect(ctx)
	if err != nil {
		return "", told(ctx, err)
	}
	defer m.conn.Close()
	for wait := 2 * time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		if err = m.start(ctx, s); err == nil || isError(err, unitExists) {
			var active bool
			if group, active, err = m.group(ctx, s.Name); err == nil && active {
				return group, nil
			}
		}
		if err != nil && !isError(err, unitExists) && !isError(err, noSuchUnit) {
			return "", told(ctx, err)
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("unit %s is there and does not run: %w", s.Name, ctx.Err())
		case <-time.After(wait):
		}
	}
}

// told puts a deadline's words before those of what it broke off.
func told(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("systemd does not answer: %w", ctx.Err())
	}
	return fmt.Errorf("ask systemd: %w", err)
}

// A property is one of a transient unit's, as the bus takes them: (sv).
type property struct {
	Name  string
	Value dbus.Variant
}

// An auxiliary is a further unit made with the one asked for: (sa(sv)).
type auxiliary struct {
	Name       string
	Properties []property
}

// properties are those of the scope. Delegate leaves the groups below it to us,
// and keeps systemd from stopping it all when the kernel kills one container
// for want of memory (OOMPolicy=). Without TasksMax all containers together
// could have no more tasks than one service (DefaultTasksMax=).
func (s Scope) properties() []property {
	pids := make([]uint32, len(s.PIDs))
	for i, p := range s.PIDs {
		pids[i] = uint32(p)
	}
	return []property{
		{"Description", dbus.MakeVariant(s.Description)},
		{"Slice", dbus.MakeVariant(anchor.Slice)},
		{"Delegate", dbus.MakeVariant(true)},
		{"TasksMax", dbus.MakeVariant(uint64(math.MaxUint64))},
		{"CollectMode", dbus.MakeVariant("inactive-or-failed")},
		{"PIDs", dbus.MakeVariant(pids)},
	}
}

// start makes the scope and returns when it is there. The slice goes with the
// last scope in it, unless the administrator has a file for it.
func (m *manager) start(ctx context.Context, s Scope) error {
	aux := []auxiliary{}
	if _, _, err := m.group(ctx, anchor.Slice); isError(err, noSuchUnit) {
		aux = append(aux, auxiliary{anchor.Slice, []property{
			{"Description", dbus.MakeVariant("davit's projects")},
			{"StopWhenUnneeded", dbus.MakeVariant(true)},
		}})
	}
	var job dbus.ObjectPath
	if err := m.call(ctx, "StartTransientUnit", s.Name, "replace", s.properties(), aux).Store(&job); err != nil {
		return err
	}
	return m.wait(ctx, job)
}

// wait returns when a job is done.
func (m *manager) wait(ctx context.Context, job dbus.ObjectPath) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case s, open := <-m.signals:
			if !open {
				return errors.New("the connection has ended")
			}
			var id uint32
			var path dbus.ObjectPath
			var name, result string
			if s.Name != managerInterface+".JobRemoved" || dbus.Store(s.Body, &id, &path, &name, &result) != nil || path != job {
				continue
			}
			if result != "done" {
				return fmt.Errorf("start %s: %s", name, result)
			}
			return nil
		}
	}
}
