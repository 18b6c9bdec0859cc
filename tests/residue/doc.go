// Package residue counts what davit leaves behind: the thirteen kinds of
// things of the kernel and of the disk that have to be as before after a down.
package residue
