// Package bridge lets BuildKit's Dockerfile frontend ask, and the local disk
// answer.
package bridge
