// Package source knows where every value was written: key path to file:line.
package source
