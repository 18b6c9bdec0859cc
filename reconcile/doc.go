// Package reconcile decides, and never does: Plan turns what a project asks for
// and what the host has into steps.
package reconcile
