// Package build makes one image of a Dockerfile: BuildKit's frontend reads it,
// and the steps run in this process over the layer store.
package build
