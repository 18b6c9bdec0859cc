// Package apply runs a plan, each step as early as it may, none after a
// failure.
package apply
