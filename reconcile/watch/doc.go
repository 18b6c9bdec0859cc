// Package watch turns changed files into what they mean for services: files to
// sync, processes to restart, images to rebuild.
package watch
