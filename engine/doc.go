// Package engine holds the nouns of davit's embedded engine: Container, Image,
// Network, Volume and State. It imports the standard library alone, so that
// planning never links the kernel side, and it knows no compose words: what a
// compose file asks for arrives here as a Spec.
package engine
