// Package resolver answers service names from endpoints and forwards the rest.
package resolver
