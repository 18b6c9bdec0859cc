// Package picture lets tests compare what is below two directories.
package picture
