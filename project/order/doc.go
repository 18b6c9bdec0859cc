// Package order puts services before their dependants, or names the cycle.
package order
