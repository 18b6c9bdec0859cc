// Package journal keeps rotated segments of output per container, and their
// index.
package journal
