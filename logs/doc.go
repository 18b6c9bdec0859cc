// Package logs has the nouns of container output: a Line and the streams that
// lines travel on.
package logs
