package build

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/davit-run/davit/engine/build/ops"
	"github.com/davit-run/davit/engine/layer"
)

// maxDockerfile bounds a Dockerfile on standard input, in bytes.
const maxDockerfile = 16 << 20

// ReadDockerfile reads a Dockerfile from a stream.
func ReadDockerfile(r io.Reader) (string, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxDockerfile+1))
	if err == nil && len(b) > maxDockerfile {
		err = fmt.Errorf("larger than %d bytes", maxDockerfile)
	}
	if err != nil {
		return "", fmt.Errorf("read Dockerfile: %w", err)
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return "", fmt.Errorf("read Dockerfile: there is nothing on standard input")
	}
	return string(b), nil
}

// ReadContext reads a context from a stream, as docker build - does: a tar
// archive, compressed or not, or a Dockerfile alone with an empty context. It
// fills in where they are until done is called.
func ReadContext(ctx context.Context, layers *layer.Store, in io.Reader, r *Request) (done func(), err error) {
	d, err := layers.NewDraft()
	if err != nil {
		return func() {}, err
	}
	r.Context, done = d.FS, d.Discard
	b := bufio.NewReaderSize(in, 64<<10)
	unpacked, err := ops.Unpack(ctx, b, d.FS)
	if err == nil && !unpacked {
		r.Inline, err = ReadDockerfile(b)
	}
	if err != nil {
		done()
		return func() {}, fmt.Errorf("build context on standard input: %w", err)
	}
	return done, nil
}
