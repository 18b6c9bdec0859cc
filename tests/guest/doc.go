// Package guest tries davit in a machine of its own, under QEMU: with systemd as
// the first process, cgroup v2 with all controllers, logins and reboots.
package guest
