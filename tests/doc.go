// Package tests holds the stories about davit's executables and the rules of
// the rooms.
package tests
