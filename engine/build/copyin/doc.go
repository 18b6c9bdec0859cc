// Package copyin brings entries of a tree into a layer by the cheapest safe
// means.
package copyin
