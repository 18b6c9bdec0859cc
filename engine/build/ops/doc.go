// Package ops has one file per kind of build step: source, exec, file, merge
// and diff.
package ops
