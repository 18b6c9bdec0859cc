// Package runtime turns a bundle into a process in its namespaces and cgroup,
// and takes every trace of it out of the kernel again.
package runtime
