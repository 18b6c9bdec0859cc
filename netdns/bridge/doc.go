// Package bridge makes the Linux bridge of a network and the veth pairs that
// plug containers into it.
package bridge
