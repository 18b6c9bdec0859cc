// Package registry brings images from and to registries.
package registry
