package bundle

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/runc/libcontainer/capabilities"
	"github.com/opencontainers/runc/libcontainer/configs"
)

// DefaultCaps returns the capabilities of a container that asks for none:
// Docker's fourteen or, tight, Podman's eleven (without MKNOD, NET_RAW and
// AUDIT_WRITE).
func DefaultCaps(tight bool) []string {
	caps := []string{
		"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER",
		"CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP",
		"CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT", "CAP_KILL",
	}
	if !tight {
		caps = append(caps, "CAP_MKNOD", "CAP_NET_RAW", "CAP_AUDIT_WRITE")
	}
	return caps
}

const allCaps = "ALL"

// capabilities sets the bounding, effective and permitted sets. Inheritable
// and ambient stay empty (CVE-2022-24769); a user other than root gets a
// bounding set alone, as execve(2) would give it.
func (b *builder) capabilities() error {
	s := b.c.Spec.Security
	caps, err := tweakCaps(s.Privileged, s.Tight, s.CapAdd, s.CapDrop)
	if err != nil {
		return err
	}
	b.caps = b.p.Facts.holds(caps)
	if s.Privileged {
		caps = b.caps // what this process may itself
	}
	b.caps = caps
	b.out.Config.Capabilities = CapsFor(b.user.UID, caps)
	b.out.Config.NoNewPrivileges = b.opts.noNewPrivileges
	return nil
}

// CapsFor spreads one set of capabilities over the sets of a process of uid.
func CapsFor(uid int, caps []string) *configs.Capabilities {
	c := &configs.Capabilities{Bounding: caps}
	if uid == 0 {
		c.Effective, c.Permitted = caps, caps
	}
	return c
}

// tweakCaps applies cap_add and cap_drop as Docker does: adding ALL keeps all
// but what is dropped, dropping ALL keeps only what is added.
func tweakCaps(privileged, tight bool, add, drop []string) ([]string, error) {
	known := capabilities.KnownCapabilities()
	add, err := capNames("cap_add", add, known)
	if err != nil {
		return nil, err
	}
	drop, err = capNames("cap_drop", drop, known)
	if err != nil {
		return nil, err
	}
	var base []string
	switch {
	case privileged:
		return known, nil
	case slices.Contains(add, allCaps):
		base, add = known, nil
	case slices.Contains(drop, allCaps):
		drop = nil
	default:
		base = DefaultCaps(tight)
	}
	var caps []string
	for _, c := range slices.Concat(base, add) {
		if !slices.Contains(caps, c) && (slices.Contains(add, c) || !slices.Contains(drop, c)) {
			caps = append(caps, c)
		}
	}
	return caps, nil
}

// capNames brings names to the form CAP_NAME and refuses those no kernel has.
func capNames(field string, names, known []string) ([]string, error) {
	var out []string
	for _, n := range names {
		c := strings.ToUpper(n)
		if c != allCaps && !strings.HasPrefix(c, "CAP_") {
			c = "CAP_" + c
		}
		if c != allCaps && !slices.Contains(known, c) {
			return nil, fmt.Errorf("%s: %q is not a capability", field, n)
		}
		out = append(out, c)
	}
	return out, nil
}
