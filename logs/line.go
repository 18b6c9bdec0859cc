package logs

import "time"

// A Stream is one of a container's outputs. Its string is also the name of the
// stream's files.
type Stream string

// The streams.
const (
	Stdout  Stream = "stdout"
	Stderr  Stream = "stderr"
	Console Stream = "console" // a terminal: both outputs in one
	Notice  Stream = "notice"  // davit's own words about the container, such as a restart
)

// A Line is one line of output, without its newline.
type Line struct {
	Source string // who printed it, such as web-1; empty when there is one source only
	Stream Stream
	Time   time.Time // when the chunk that ends the line arrived
	Seq    uint64    // order of arrival within the source
	Text   []byte    // valid until the next call
	// Partial is set when the line has no newline yet (a prompt, a progress
	// bar, the end of output): more of it may follow.
	Partial bool
}
