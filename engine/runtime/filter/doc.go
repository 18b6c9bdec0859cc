// Package filter has containers start with a seccomp program that was compiled
// once, instead of each compiling the same one anew.
package filter
