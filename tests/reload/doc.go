// Command reload runs a program and runs it anew whenever something in a
// directory has changed, as the reloaders of Go projects do.
package main
