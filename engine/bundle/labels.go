package bundle

import (
	"fmt"

	"github.com/opencontainers/selinux/go-selinux"
	"github.com/opencontainers/selinux/go-selinux/label"
)

// labels sets what a security module, where the host runs one, is told.
func (b *builder) labels() error {
	cfg := b.out.Config
	switch b.opts.apparmor {
	case "", "unconfined":
	default:
		if !b.p.Facts.AppArmor {
			return fmt.Errorf("security_opt apparmor=%s: AppArmor is not enabled on this host", b.opts.apparmor)
		}
		cfg.AppArmorProfile = b.opts.apparmor
	}
	if !selinux.GetEnabled() || b.c.Spec.Security.Privileged {
		return nil
	}
	process, mount, err := label.InitLabels(b.opts.labels)
	if err != nil {
		return fmt.Errorf("security_opt label: %w", err)
	}
	cfg.ProcessLabel, cfg.MountLabel = process, mount
	return nil
}
