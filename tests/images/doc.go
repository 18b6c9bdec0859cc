// Package images makes the base images that tests and examples stand on, from
// the packages of the Debian host it runs on and without any registry, and
// keeps them in a cache outside the repository.
package images
