// Package bundle turns a container record into libcontainer's configuration:
// what runs, as whom, in which namespaces, behind which default hardening.
package bundle
