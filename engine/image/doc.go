// Package image keeps names, manifests and configurations of images, and
// takes archives in and out.
package image
