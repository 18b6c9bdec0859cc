// Package mux follows many containers as one stream, in time order.
package mux
