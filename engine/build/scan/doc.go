// Package scan shows a build context, or a stack of layers, as a filtered,
// digested list of entries.
package scan
