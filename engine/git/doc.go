// Package git brings a git repository at one commit into a directory.
package git
