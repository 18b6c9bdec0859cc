// Package solver knows which build step already ran on these inputs, and runs
// the others.
package solver
