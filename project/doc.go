// Package project has Project: the checked, interpolated model of the compose
// files.
package project
