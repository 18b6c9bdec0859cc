package bundle

import (
	"fmt"
	"strings"

	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
)

// tmpfs is one in-memory mount: nosuid, nodev and noexec unless its options
// say otherwise, as with Docker. Without a mode it takes that of the directory
// it covers, or 1777 where there is none.
func tmpfs(m engine.Mount, target string) (*configs.Mount, error) {
	cm := &configs.Mount{Device: "tmpfs", Source: "tmpfs", Destination: target, Flags: hardMount}
	var data []string
	for _, o := range m.TmpfsOptions {
		for _, o := range strings.Split(o, ",") {
			d, err := tmpfsOption(cm, o)
			if err != nil {
				return nil, err
			}
			if d != "" {
				data = append(data, d)
			}
		}
	}
	if m.TmpfsSize > 0 {
		data = append(data, fmt.Sprintf("size=%d", m.TmpfsSize))
	}
	if m.TmpfsMode != 0 {
		data = append(data, fmt.Sprintf("mode=%o", m.TmpfsMode))
	}
	if m.ReadOnly {
		cm.Flags |= unix.MS_RDONLY
	}
	cm.Data = strings.Join(data, ",")
	return cm, nil
}

// tmpfsOption applies one mount option, or returns it as data for the file
// system; those that could name something outside are not among either.
func tmpfsOption(cm *configs.Mount, o string) (data string, err error) {
	set, clear := 0, 0
	switch o {
	case "", "rw", "defaults":
	case "ro":
		set = unix.MS_RDONLY
	case "exec":
		clear = unix.MS_NOEXEC
	case "noexec":
		set = unix.MS_NOEXEC
	case "suid":
		clear = unix.MS_NOSUID
	case "nosuid":
		set = unix.MS_NOSUID
	case "dev":
		clear = unix.MS_NODEV
	case "nodev":
		set = unix.MS_NODEV
	case "sync":
		set = unix.MS_SYNCHRONOUS
	case "noatime":
		set = unix.MS_NOATIME
	case "nodiratime":
		set = unix.MS_NODIRATIME
	case "relatime":
		set = unix.MS_RELATIME
	case "strictatime":
		set = unix.MS_STRICTATIME
	default:
		key, _, ok := strings.Cut(o, "=")
		switch key {
		case "size", "mode", "uid", "gid", "nr_inodes", "nr_blocks", "mpol", "huge":
			if ok {
				return o, nil
			}
		}
		return "", fmt.Errorf("%q is not an option of tmpfs", o)
	}
	cm.Flags = cm.Flags&^clear | set
	return "", nil
}
