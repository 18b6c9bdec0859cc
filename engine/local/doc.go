// Package local is this host's engine: one method per plan action, and no
// decisions.
package local
