// Package anchor is the keeper's parent: it reaps orphans and records how they
// ended, keeps file descriptors that must outlive a keeper, and starts the
// keeper again when it dies.
package anchor
