// Package netdns has the nouns of a project's network: what it takes to Attach
// a container and to Detach it.
package netdns
