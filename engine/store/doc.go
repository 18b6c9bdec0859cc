// Package store keeps davit's records on disk, written atomically, locked per
// project, and knows every path that davit uses.
package store
