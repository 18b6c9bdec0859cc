package bundle

// maskedPaths are moby's, and the SELinux file system: what they tell or let
// one do is the host's (HARDENING 1.3, GHSA-jq35-85cj-fj4p, GHSA-6fw5-f8r9-fgfm).
func maskedPaths() []string {
	return []string{
		"/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore",
		"/proc/keys", "/proc/latency_stats", "/proc/sched_debug", "/proc/scsi",
		"/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap",
		"/sys/firmware", "/sys/fs/selinux",
	}
}

// readonlyPaths are moby's: /proc entries that change the host.
func readonlyPaths() []string {
	return []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
}

// paths hides what of /proc and /sys is the host's.
func (b *builder) paths() error {
	if b.c.Spec.Security.Privileged || b.opts.bareSystemPaths {
		return nil
	}
	b.out.Config.MaskPaths = append(maskedPaths(), b.p.Facts.ThermalPaths...)
	b.out.Config.ReadonlyPaths = readonlyPaths()
	return nil
}
