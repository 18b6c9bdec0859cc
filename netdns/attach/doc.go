// Package attach makes networks stand on this host and attaches containers to
// them: it composes bridge, ipam, sandbox, firewall and resolver.
package attach
