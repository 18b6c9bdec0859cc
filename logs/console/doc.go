// Package console prints lines with coloured, aligned prefixes.
package console
