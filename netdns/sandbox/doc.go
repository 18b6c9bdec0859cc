// Package sandbox makes a container's network namespace and configures the
// endpoints in it.
package sandbox
