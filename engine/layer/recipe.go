package layer

import (
	"bufio"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
)

// A recipe says how a layer's tar is put together again, byte for byte, from
// the files on disk: everything that is not a file's content, compressed, and
// in between the paths whose content goes there. It is a few per cent of the
// layer, and spares keeping the archive beside the unpacked files.
//
// On disk: a flate stream of operations. 0: end; 1, uvarint n, n bytes:
// literal; 2, uvarint n, n bytes of path, uvarint size: that file's content.
const (
	opEnd     = 0
	opLiteral = 1
	opFile    = 2
)

const maxLiteral = 64 << 10

type recipeWriter struct {
	f       *os.File
	buf     *bufio.Writer
	z       *flate.Writer
	pending []byte
	err     error
}

func createRecipe(path string) (*recipeWriter, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("write layer recipe: %w", err)
	}
	w := &recipeWriter{f: f, buf: bufio.NewWriterSize(f, 64<<10)}
	w.z, _ = flate.NewWriter(w.buf, flate.BestSpeed)
	return w, nil
}

func (w *recipeWriter) literal(b []byte) {
	w.pending = append(w.pending, b...)
	if len(w.pending) >= maxLiteral {
		w.flush()
	}
}

func (w *recipeWriter) flush() {
	if len(w.pending) > 0 {
		w.op(opLiteral, w.pending)
		w.pending = w.pending[:0]
	}
}

func (w *recipeWriter) file(path string, size int64) {
	w.flush()
	w.op(opFile, []byte(path))
	w.write(binary.AppendUvarint(nil, uint64(size)))
}

func (w *recipeWriter) op(kind byte, b []byte) {
	w.write(binary.AppendUvarint([]byte{kind}, uint64(len(b))))
	w.write(b)
}

func (w *recipeWriter) write(b []byte) {
	if w.err == nil {
		_, w.err = w.z.Write(b)
	}
}

// close finishes the recipe; it is an error when any of it was not written.
func (w *recipeWriter) close() error {
	w.flush()
	w.write([]byte{opEnd})
	err := errors.Join(w.err, w.z.Close(), w.buf.Flush(), w.f.Close())
	if err != nil {
		return fmt.Errorf("write layer recipe: %w", err)
	}
	return nil
}

// replay follows the recipe at path: literals go to w, and content is asked
// for each file in its place.
func replay(path string, w io.Writer, content func(path string, size int64) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	z := flate.NewReader(bufio.NewReaderSize(f, 64<<10))
	defer z.Close()
	r := bufio.NewReaderSize(z, maxLiteral)
	for {
		op, err := r.ReadByte()
		if err != nil {
			return fmt.Errorf("read layer recipe: %w", err)
		}
		if op == opEnd {
			return nil
		}
		n, err := binary.ReadUvarint(r)
		if err != nil {
			return fmt.Errorf("read layer recipe: %w", err)
		}
		switch op {
		case opLiteral:
			_, err = io.CopyN(w, r, int64(n))
		case opFile:
			err = replayFile(r, n, content)
		default:
			err = fmt.Errorf("read layer recipe: unknown operation %d", op)
		}
		if err != nil {
			return err
		}
	}
}

func replayFile(r *bufio.Reader, n uint64, content func(string, int64) error) error {
	if n > maxPath {
		return errors.New("read layer recipe: path too long")
	}
	name := make([]byte, n)
	if _, err := io.ReadFull(r, name); err != nil {
		return fmt.Errorf("read layer recipe: %w", err)
	}
	size, err := binary.ReadUvarint(r)
	if err != nil {
		return fmt.Errorf("read layer recipe: %w", err)
	}
	return content(string(name), int64(size))
}
