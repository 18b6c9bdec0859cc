// Command bench measures davit, another compose-compatible runner beside it in
// the same run, and the floor that this machine sets to both.
package main
