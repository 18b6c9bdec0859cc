// Package cli has one file per command: flags in, one call down, result out.
package cli
