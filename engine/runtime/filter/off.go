//go:build !cgo || !seccomp

package filter

// Adopt does nothing in a build without filters.
func Adopt() {}

// Main cannot compile anything in a build without filters.
func Main() int { return 1 }
