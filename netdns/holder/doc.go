// Package holder finds out who has a port of the host.
package holder
