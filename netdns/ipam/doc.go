// Package ipam chooses the subnets of networks and leases addresses from them.
package ipam
