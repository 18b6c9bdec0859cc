package mirror

import (
	"bytes"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// same says whether the file at to has the content and mode of the one at from
// already.
func (m *Mirror) same(from, to string) bool {
	have, err := m.root.OpenRegular(to)
	if err != nil {
		return false
	}
	defer have.Close()
	fd, st, err := openHost(from)
	if err != nil {
		return false
	}
	want := os.NewFile(uintptr(fd), from)
	defer want.Close()
	var old unix.Stat_t
	return unix.Fstat(int(have.Fd()), &old) == nil && old.Size == st.Size && old.Mode&0o777 == st.Mode&0o777 && equal(have, want)
}

func equal(a, b io.Reader) bool {
	x, y := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, errA := io.ReadFull(a, x)
		k, errB := io.ReadFull(b, y)
		if n != k || !bytes.Equal(x[:n], y[:k]) {
			return false
		}
		if errA != nil || errB != nil {
			return errA != nil && errB != nil
		}
	}
}
