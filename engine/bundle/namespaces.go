package bundle

import (
	"fmt"
	"strings"

	"github.com/opencontainers/runc/libcontainer/configs"
)

// namespaces makes every namespace private but those the record shares. The
// user namespace is the host's; a cgroup namespace is private on v2 and, as
// Docker has it, the host's on v1.
func (b *builder) namespaces() error {
	s := b.c.Spec.Security
	if s.Userns != "" && s.Userns != "host" {
		return fmt.Errorf("userns_mode %q: containers run in the host's user namespace here; leave it out or say host", s.Userns)
	}
	ns := &b.out.Config.Namespaces
	ns.Add(configs.NEWNS, "")
	for _, k := range []struct {
		field, mode string
		kind        configs.NamespaceType
	}{{"pid", s.PID, configs.NEWPID}, {"ipc", s.IPC, configs.NEWIPC}, {"uts", s.UTS, configs.NEWUTS}} {
		if err := b.namespace(k.field, k.mode, k.kind); err != nil {
			return err
		}
	}
	if !b.p.HostNet {
		ns.Add(configs.NEWNET, b.p.NetNS)
	}
	if s.Cgroup == "private" || s.Cgroup == "" && b.p.Facts.Unified && !s.Privileged || b.tightCgroup() {
		ns.Add(configs.NEWCGROUP, "")
	}
	if b.p.Facts.TimeNS && !s.Privileged {
		ns.Add(configs.NEWTIME, "")
	}
	if ns.Contains(configs.NEWUTS) {
		b.out.Config.Hostname = b.hostname()
		b.out.Config.Domainname = b.c.Spec.Domainname
	} else if b.c.Spec.Hostname != "" || b.c.Spec.Domainname != "" {
		return fmt.Errorf("hostname and domainname cannot be set with uts: host")
	}
	return nil
}

func (b *builder) tightCgroup() bool {
	return b.c.Spec.Security.Tight && b.c.Spec.Security.Cgroup == ""
}

func (b *builder) namespace(field, mode string, kind configs.NamespaceType) error {
	switch {
	case mode == "", mode == "private", field == "ipc" && (mode == "shareable" || mode == "none"):
		b.out.Config.Namespaces.Add(kind, "")
	case mode == "host":
	case strings.HasPrefix(mode, "container:"):
		path := b.p.Join[kind]
		if path == "" {
			return fmt.Errorf("%s %s: that container does not run", field, mode)
		}
		b.out.Config.Namespaces.Add(kind, path)
	default:
		return fmt.Errorf("%s %q: use host, container:ID or leave it out", field, mode)
	}
	return nil
}

// sysctls sets those Docker sets in a network namespace of its own, and the
// record's. libcontainer refuses any that is not namespaced.
func (b *builder) sysctls() error {
	ctl := map[string]string{}
	joined := strings.HasPrefix(b.c.Spec.NetworkMode, "container:")
	if b.out.Config.Namespaces.Contains(configs.NEWNET) && !joined {
		ctl["net.ipv4.ping_group_range"] = "0 2147483647"
		ctl["net.ipv4.ip_unprivileged_port_start"] = "0"
	}
	for k, v := range b.c.Spec.Security.Sysctls {
		ctl[k] = v
	}
	b.out.Config.Sysctl = ctl
	return nil
}
