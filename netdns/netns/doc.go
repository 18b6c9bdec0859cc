// Package netns runs a function inside another network namespace.
package netns
