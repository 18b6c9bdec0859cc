package systemd

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"
)

const (
	service = "org.freedesktop.systemd1"
	slice   = "davit.slice"
	objects = "/org/freedesktop/systemd1/unit/"
)

// do is one method of org.freedesktop.systemd1(5): its reply, the signal that
// follows, or the last part of an error's name.
func (f *Fake) do(member string, path dbus.ObjectPath, args []any) (body, signal []any, fault string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch member {
	case "Ping":
		return nil, nil, ""
	case "GetUnit":
		name, _ := args[0].(string)
		if f.units[name] == nil {
			return nil, nil, "NoSuchUnit"
		}
		return []any{object(name)}, nil, ""
	case "Get":
		return f.get(path, args)
	case "StartTransientUnit":
		return f.start(args)
	}
	return nil, nil, "UnknownMethod"
}

// object is a unit's; slashes and all but letters and digits are escaped.
func object(name string) dbus.ObjectPath {
	var b strings.Builder
	for _, c := range []byte(name) {
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
			b.WriteByte(c)
		} else {
			b.WriteString("_" + strconv.FormatInt(int64(c)|0x100, 16)[1:])
		}
	}
	return dbus.ObjectPath(objects + b.String())
}

func (f *Fake) get(path dbus.ObjectPath, args []any) (body, signal []any, fault string) {
	for name := range f.units {
		if object(name) != path {
			continue
		}
		value := "active"
		if args[1] == "ControlGroup" {
			value = "/" + slice
			if name != slice {
				value += "/" + name
			}
		}
		return []any{dbus.MakeVariant(value)}, nil, ""
	}
	return nil, nil, "NoSuchUnit"
}

// start is StartTransientUnit(name, mode, properties, auxiliary units).
func (f *Fake) start(args []any) (body, signal []any, fault string) {
	name, _ := args[0].(string)
	properties := table(args[2])
	aux := map[string]map[string]dbus.Variant{}
	for _, a := range args[3].([][]any) {
		aux[a[0].(string)] = table(a[1])
	}
	if f.units[name] != nil || f.units[slice] != nil && aux[slice] != nil {
		return nil, nil, "UnitExists"
	}
	pids, _ := properties["PIDs"].Value().([]uint32)
	if !strings.HasSuffix(name, ".scope") || properties["Slice"].Value() != slice || len(pids) == 0 {
		return nil, nil, "BadUnitSetting"
	}
	if f.units[slice] == nil {
		f.units[slice] = &unit{properties: aux[slice]}
	}
	f.units[name] = &unit{properties: properties}
	f.made = append(f.made, name)
	for _, top := range f.tops {
		dir := filepath.Join(top, slice, name)
		for err := os.MkdirAll(dir, 0o755); err != nil; err = os.MkdirAll(dir, 0o755) {
			if !errors.Is(err, fs.ErrNotExist) { // else another test's manager has just removed the slice
				f.t.Errorf("systemd: %v", err)
				break
			}
		}
		for _, pid := range pids {
			if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(int(pid))), 0); err != nil {
				f.t.Errorf("systemd: move %d to %s: %v", pid, dir, err)
			}
		}
	}
	f.job++
	job := dbus.ObjectPath("/org/freedesktop/systemd1/job/" + strconv.Itoa(int(f.job)))
	return []any{job}, []any{f.job, job, name, "done"}, ""
}

// table reads a(sv).
func table(v any) map[string]dbus.Variant {
	out := map[string]dbus.Variant{}
	for _, p := range v.([][]any) {
		out[p[0].(string)] = p[1].(dbus.Variant)
	}
	return out
}

// processes are those in the scope, in any hierarchy.
func (f *Fake) processes(scope string) (pids []int) {
	for _, top := range f.tops {
		_ = filepath.WalkDir(filepath.Join(top, slice, scope), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.Name() != "cgroup.procs" {
				return nil
			}
			b, _ := os.ReadFile(path)
			for word := range strings.FieldsSeq(string(b)) {
				if pid, err := strconv.Atoi(word); err == nil && !slices.Contains(pids, pid) {
					pids = append(pids, pid)
				}
			}
			return nil
		})
	}
	return pids
}

// Group is the path of a unit's group from the root of the hierarchies.
func Group(scope string) string { return "/" + slice + "/" + scope }
