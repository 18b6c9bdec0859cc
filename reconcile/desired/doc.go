// Package desired says which networks, volumes, images and containers a
// Project asks for.
package desired
