// Package unit has systemd make the unit that a project runs in.
package unit
