// Package chaos kills davit at chosen system calls and wants the next command
// to make everything good; and it lets the disk run full.
package chaos
