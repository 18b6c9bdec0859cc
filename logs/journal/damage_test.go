package journal

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/davit-run/davit/logs"
)

// written makes a log of two generations' worth of lines and returns its dir.
func written(t testing.TB) string {
	dir := t.TempDir()
	w := wr(t, dir, Options{MaxSize: 8 << 10, MaxFiles: 9})
	for i := range 20 {
		pour(t, w, logs.Stdout, numbered(i*50, i*50+50))
	}
	w.Close()
	return dir
}

func edit(t testing.TB, path string, change func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, change(b), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func newestIndex(t testing.TB, dir string) string {
	t.Helper()
	names, _ := filepath.Glob(dir + "/index-*")
	if len(names) == 0 {
		t.Fatal("no index")
	}
	return names[len(names)-1]
}

func TestDamagedIndexLosesNoLine(t *testing.T) {
	damages := map[string]func([]byte) []byte{
		"torn tail":            func(b []byte) []byte { return b[:len(b)-11] },
		"zeroed tail":          func(b []byte) []byte { return append(b[:len(b)-recordSize], make([]byte, 200)...) },
		"last record missing":  func(b []byte) []byte { return b[:len(b)-recordSize] },
		"all records missing":  func(b []byte) []byte { return b[:headerSize] },
		"a bit of a record":    func(b []byte) []byte { b[headerSize+20] ^= 4; return b },
		"a bit of the header":  func(b []byte) []byte { b[30] ^= 1; return b },
		"empty":                func([]byte) []byte { return nil },
		"half a header":        func(b []byte) []byte { return b[:20] },
		"another program's":    func([]byte) []byte { return []byte(strings.Repeat("hello ", 100)) },
		"a time of the future": func(b []byte) []byte { return futureRecord(b) },
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			dir := written(t)
			edit(t, newestIndex(t, dir), damage)
			if report, err := Verify(dir); err != nil || (len(report.Problems) == 0 && report.Unindexed == 0 && name != "a time of the future") {
				t.Errorf("Verify found %+v, %v", report, err)
			}
			equal(t, readAll(t, dir, all), readNumbers(1000)...)
			equal(t, readAll(t, dir, ReadOptions{Tail: 3}), readNumbers(1000)[997:]...)
			w := wr(t, dir, Options{MaxSize: 8 << 10, MaxFiles: 9})
			pour(t, w, logs.Stdout, numbered(1000, 1010))
			equal(t, readAll(t, dir, all), readNumbers(1010)...)
		})
	}
}

func readNumbers(n int) []string {
	var b strings.Builder
	numbered(0, n)(&b)
	lines := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
	for i := range lines {
		lines[i] = "stdout " + lines[i]
	}
	return lines
}

// futureRecord makes the last record one hour younger than now, as a clock
// does that was set back since.
func futureRecord(b []byte) []byte {
	last := b[len(b)-recordSize:]
	r, _ := decodeRecord(last)
	r.time = time.Now().Add(time.Hour).UnixNano()
	r.encode(last)
	return b
}

func TestLostEndOfAStreamBeginsAnotherGeneration(t *testing.T) {
	dir := written(t)
	gen := strings.TrimPrefix(filepath.Base(newestIndex(t, dir)), indexPrefix)
	edit(t, dir+"/stdout-"+gen, func(b []byte) []byte { return b[:len(b)-25] })
	report, err := Verify(dir)
	if err != nil || len(report.Problems) != 1 {
		t.Fatalf("Verify found %+v, %v", report, err)
	}
	w := wr(t, dir, Options{MaxSize: 8 << 10, MaxFiles: 9})
	pour(t, w, logs.Stdout, func(w io.Writer) { io.WriteString(w, "\nafter\n") })
	got := readAll(t, dir, all)
	if last := got[len(got)-1]; last != "stdout after" || got[996] != "stdout line 996" {
		t.Fatalf("%d lines, the last is %q", len(got), last)
	}
}

func TestSymbolicLinkInThePlaceOfALogIsRefused(t *testing.T) {
	victim := filepath.Join(t.TempDir(), "shadow")
	os.WriteFile(victim, []byte("root:secret\n"), 0o600)
	dir := t.TempDir()
	os.Symlink(victim, dir+"/stdout-00000001")
	w, err := Create(dir, Options{})
	if err == nil {
		defer w.Close()
		r, pw := blockingPipe(t)
		defer r.Close()
		io.WriteString(pw, "evil\n")
		pw.Close()
		_ = w.Pump(t.Context(), logs.Stdout, r)
	}
	if b, _ := os.ReadFile(victim); string(b) != "root:secret\n" {
		t.Fatalf("the file behind the link now has %q", b)
	}
	read := t.TempDir()
	w2 := wr(t, read, Options{})
	w2.Close()
	os.Symlink(victim, read+"/stdout-00000001")
	if r, err := Open(read, all); err == nil {
		r.Close()
		t.Fatal("a log that is a link was read")
	}
}

func TestSecondWriterIsKeptOut(t *testing.T) {
	dir := t.TempDir()
	w := wr(t, dir, Options{})
	if w2, err := Create(dir, Options{}); err == nil {
		w2.Close()
		t.Fatal("two writers on one log")
	}
	w.Close()
	if err := w.Notice("late"); !errors.Is(err, ErrClosed) {
		t.Fatalf("a closed log said %v", err)
	}
}

func TestLoggingOptions(t *testing.T) {
	good := map[string]Options{
		"10m 3":  {10 << 20, 3},
		"1.5k 2": {1536, 2},
		"2GiB 1": {2 << 30, 1},
		" ":      {},
	}
	for in, want := range good {
		size, files, _ := strings.Cut(in, " ")
		got, err := OptionsFor(map[string]string{"max-size": size, "max-file": files, "tag": "x"})
		if err != nil || got != want {
			t.Errorf("%q gives %+v, %v", in, got, err)
		}
	}
	for _, bad := range []string{"x 1", "10q 1", "-5m 1", "nan 1", "1e99t 1", "1m 0", "1m many"} {
		size, files, _ := strings.Cut(bad, " ")
		if o, err := OptionsFor(map[string]string{"max-size": size, "max-file": files}); err == nil {
			t.Errorf("%q gives %+v", bad, o)
		}
	}
	if o := (Options{}).bounded(); o.MaxSize*int64(o.MaxFiles) != 1<<30 {
		t.Errorf("a log may have %d bytes by default", o.MaxSize*int64(o.MaxFiles))
	}
}

// exhaust reads a log whatever it is; it has to come to an end.
func exhaust(t *testing.T, dir string, o ReadOptions, limit int) {
	r, err := Open(dir, o)
	if err != nil {
		return
	}
	defer r.Close()
	for i := 0; ; i++ {
		if _, err := r.Next(t.Context()); err != nil {
			return
		}
		if i > limit {
			t.Fatalf("more than %d lines", limit)
		}
	}
}

func FuzzIndex(f *testing.F) {
	dir := written(f)
	b, _ := os.ReadFile(newestIndex(f, dir))
	f.Add(b)
	f.Add(b[:headerSize])
	f.Add(b[:len(b)-5])
	f.Add([]byte(nil))
	far := append([]byte(nil), b...)
	r, _ := decodeRecord(far[headerSize:])
	r.ends = ends{1 << 62, 1 << 62, 1 << 62, 1 << 62}
	r.encode(far[headerSize:])
	f.Add(far)
	f.Fuzz(func(t *testing.T, index []byte) {
		dir := t.TempDir()
		if len(index) >= headerSize { // let the fuzzer get past the checksums
			h, err := decodeHeader(index)
			if err != nil {
				h = header{gen: 1, continues: binary.LittleEndian.Uint32(index[12:]), base: binary.LittleEndian.Uint64(index[32:])}
			}
			h.gen = 1
			copy(index, h.encode())
			for at := headerSize; at+recordSize <= len(index); at += recordSize {
				index[at], index[at+1] = kindData, index[at+1]%numStreams
				binary.LittleEndian.PutUint32(index[at+4:], recordSum(index[at:]))
			}
		}
		os.WriteFile(dir+"/index-00000001", index, 0o600)
		os.WriteFile(dir+"/stdout-00000001", []byte(strings.Repeat("a line\n", 200)), 0o600)
		os.WriteFile(dir+"/stderr-00000001", []byte("another\nunfinished"), 0o600)
		for _, o := range []ReadOptions{all, {Tail: 5}, {Tail: -1, Since: time.Now()}, {Tail: 2, Until: timeOf(1)}} {
			exhaust(t, dir, o, 210)
		}
		if _, err := Verify(dir); err != nil {
			t.Fatal(err)
		}
		w, err := Create(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Notice("here"); err != nil {
			t.Fatal(err)
		}
		w.Close()
		exhaust(t, dir, all, 220)
	})
}

func FuzzSegment(f *testing.F) {
	f.Add([]byte("one\ntwo\n"), []byte("err\n"), uint16(3))
	f.Add([]byte("\n\n\r\n"), []byte("no end"), uint16(1))
	f.Add([]byte(strings.Repeat("long", 3000)), []byte{0, 255, '\n'}, uint16(4000))
	f.Fuzz(func(t *testing.T, out, errs []byte, chunk uint16) {
		dir := t.TempDir()
		w, err := Create(dir, Options{MaxSize: 4 << 10, MaxFiles: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		want := map[logs.Stream]string{logs.Stdout: string(out), logs.Stderr: string(errs)}
		for len(out)+len(errs) > 0 {
			out = putChunk(t, w, 0, out, int(chunk)+1)
			errs = putChunk(t, w, 1, errs, int(chunk)+1)
		}
		got := map[logs.Stream]string{}
		r, err := Open(dir, all)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		for {
			l, err := r.Next(t.Context())
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			got[l.Stream] += string(l.Text)
			if !l.Partial {
				got[l.Stream] += "\n"
			}
		}
		for s, text := range want {
			if got[s] != text {
				t.Fatalf("%s is %q, want %q", s, got[s], text)
			}
		}
	})
}

// putChunk puts the first n bytes into the log as a pump does.
func putChunk(t *testing.T, w *Writer, s int, b []byte, n int) []byte {
	n = min(n, len(b))
	if n == 0 {
		return b
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now := w.now()
	w.makeRoom(now)
	f, err := w.stream(s)
	if err == nil {
		err = w.append(f, s, b[:n], now)
	}
	if err != nil {
		t.Fatal(err)
	}
	return b[n:]
}
