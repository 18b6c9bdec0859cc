package image

import (
	"bytes"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ulikunitz/xz"
)

// xzStream compresses content in blocks of the given size with a dictionary.
func xzStream(t *testing.T, content []byte, dictionary int, block int64) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := xz.WriterConfig{DictCap: dictionary, BlockSize: block}.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func unxz(b []byte) ([]byte, error) {
	r, err := Decompress(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func TestXZComesOutWhole(t *testing.T) {
	src := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 300<<10)
	for i := range noise {
		noise[i] = byte(src.Uint32())
	}
	words := bytes.Repeat([]byte("what compresses well, "), 20000)
	one := xzStream(t, words, 1<<20, 0)
	for name, c := range map[string]struct{ in, want []byte }{
		"nothing":                      {xzStream(t, nil, 1<<20, 0), nil},
		"one block":                    {one, words},
		"many blocks":                  {xzStream(t, words, 1<<16, 7001), words},
		"incompressible":               {xzStream(t, noise, 1<<20, 100<<10), noise},
		"two streams, padding between": {append(append(bytes.Clone(one), 0, 0, 0, 0), xzStream(t, noise, 1<<20, 0)...), append(bytes.Clone(words), noise...)},
	} {
		got, err := unxz(c.in)
		if err != nil || !bytes.Equal(got, c.want) {
			t.Errorf("%s: %d bytes, %v; want %d", name, len(got), err, len(c.want))
		}
	}
}

func TestXZWithALargeDictionaryIsRefused(t *testing.T) {
	small, large := xzStream(t, []byte("small"), 1<<20, 0), xzStream(t, []byte("large"), maxWindow*2, 0)
	later := xzStream(t, bytes.Repeat([]byte("x"), 100), 1<<20, 50)
	at := bytes.LastIndex(later, []byte{0x21, 1}) // the second block's filter
	later[at+2] = 40                              // 4 GiB
	for name, in := range map[string][]byte{
		"the first block": large, "a second stream": append(bytes.Clone(small), large...), "a second block": later,
	} {
		if _, err := unxz(in); err == nil || !strings.Contains(err.Error(), "dictionary") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDamagedXZIsAnError(t *testing.T) {
	whole := xzStream(t, bytes.Repeat([]byte("what compresses well, "), 200), 1<<12, 1000)
	for n := 7; n < len(whole); n++ {
		if _, err := unxz(whole[:n]); err == nil {
			t.Fatalf("cut at %d of %d bytes: no error", n, len(whole))
		}
	}
	src := rand.New(rand.NewPCG(3, 4))
	for range 500 {
		b := bytes.Clone(whole)
		b[6+src.IntN(len(b)-6)] ^= 1 << src.IntN(8)
		got, err := unxz(b)
		if err == nil && len(got) != 200*22 {
			t.Fatalf("%d bytes and no error", len(got))
		}
	}
}
