// Package chaos kills davit at chosen system calls and wants the next command
// to make everything good.
package chaos
