// Package volume keeps named and anonymous volumes.
package volume
