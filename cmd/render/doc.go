// Package render says how plans, tables, progress and mistakes look on a
// terminal.
package render
