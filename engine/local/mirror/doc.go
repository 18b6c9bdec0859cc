// Package mirror writes files of the host into a running container.
package mirror
