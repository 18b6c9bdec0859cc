// Package kernel gives tests a piece of the kernel of their own: a network
// namespace, a cgroup layout, a davit root, and a way to clear them.
package kernel
