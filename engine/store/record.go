package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// schema is the version of the records this build writes. A record of a later
// version is refused by name, never guessed at.
const schema = 1

// maxRecord bounds a record's size, in bytes: a file larger than this is no
// record of ours.
const maxRecord = 16 << 20

// ErrNotFound means that there is no record at the path.
var ErrNotFound = errors.New("no such record")

// A DamagedError names a record that cannot be believed.
type DamagedError struct {
	Path string
	Why  string
	// Blank: the file is empty, or nothing but zeros. That is what a power cut
	// leaves of a file that was renamed into place and never synced: its name
	// is on the disk, its content is not.
	Blank bool
}

// Error tells which file, and why it is not believed.
func (e *DamagedError) Error() string { return fmt.Sprintf("record %s: %s", e.Path, e.Why) }

func damaged(path, why string) error { return &DamagedError{Path: path, Why: why} }

// blank tells a record of which a power cut left the name alone.
func blank(err error) bool {
	var d *DamagedError
	return errors.As(err, &d) && d.Blank
}

type envelope struct {
	Version int             `json:"version"`
	CRC     uint32          `json:"crc32"`
	Body    json.RawMessage `json:"body"`
}

// Write stores v at path so that a reader sees the old record or the new one,
// whole, whenever the machine stops: temporary file, sync, rename, sync of the
// directory. The generation before is kept beside it (path~).
func Write(path string, v any) error { return write(path, v, true) }

// WriteUnsynced is Write for what a reboot makes void anyway: atomic for other
// processes, but a power cut may bring the old record back, or leave a blank
// one; then the generation that is kept beside it stands in.
func WriteUnsynced(path string, v any) error { return write(path, v, false) }

func write(path string, v any, durable bool) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("record %s: %w", path, err)
	}
	b, err := json.Marshal(envelope{Version: schema, CRC: crc32.ChecksumIEEE(body), Body: body})
	if err != nil {
		return fmt.Errorf("record %s: %w", path, err)
	}
	if _, err := os.Lstat(path + "~"); durable || err != nil {
		keepGeneration(path)
	}
	return writeFile(path, append(b, '\n'), 0o600, durable)
}

// keepGeneration links the present record to path~. It is a courtesy for
// recovery; that it could not be kept is no reason to refuse the new record.
func keepGeneration(path string) {
	old := path + "~"
	if _, err := os.Lstat(path); err != nil {
		return
	}
	_ = os.Remove(old)
	_ = os.Link(path, old)
}

// WriteFile replaces the file at path atomically and durably.
func WriteFile(path string, content []byte, mode os.FileMode) error {
	return writeFile(path, content, mode, true)
}

func writeFile(path string, content []byte, mode os.FileMode, durable bool) (err error) {
	dir := filepath.Dir(path)
	f, err := claim(filepath.Join(dir, "."+filepath.Base(path)+".tmp"))
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
			f.Close()
		}
	}()
	if _, err = f.Write(content); err == nil {
		err = f.Chmod(mode)
	}
	if err == nil && durable {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if cerr := f.Close(); err == nil { // the claim goes with it: after the rename
		err = cerr
	}
	if err == nil && durable {
		err = SyncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// SyncDir makes the entries of a directory durable.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// Read fills v from the record at path. A record that is missing is
// ErrNotFound; one that is damaged falls back to the generation before it, and
// is a *DamagedError when that is no better. FIFOs, links and directories in a
// record's place are damage too, and never waited on.
func Read(path string, v any) error {
	err := read(path, v)
	if err == nil || errors.Is(err, ErrNotFound) {
		return err
	}
	if read(path+"~", v) == nil {
		return nil
	}
	return err
}

func read(path string, v any) error {
	b, err := readAll(path)
	if err != nil {
		return err
	}
	if len(bytes.Trim(b, "\x00")) == 0 {
		return &DamagedError{path, "it is blank", true}
	}
	var e envelope
	if err := json.Unmarshal(b, &e); err != nil {
		return damaged(path, "not a record: "+err.Error())
	}
	if e.Version > schema {
		return damaged(path, fmt.Sprintf("written by a newer davit (record version %d, this one reads %d)", e.Version, schema))
	}
	if crc32.ChecksumIEEE(bytes.TrimSpace(e.Body)) != e.CRC {
		return damaged(path, "its checksum does not match its content")
	}
	if err := json.Unmarshal(e.Body, v); err != nil {
		return damaged(path, err.Error())
	}
	return nil
}

func readAll(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", path, ErrNotFound)
	}
	if err != nil {
		return nil, damaged(path, err.Error())
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, damaged(path, err.Error())
	}
	if !st.Mode().IsRegular() {
		return nil, damaged(path, "not a regular file")
	}
	b, err := io.ReadAll(io.LimitReader(f, maxRecord+1))
	if err != nil {
		return nil, damaged(path, err.Error())
	}
	if len(b) > maxRecord {
		return nil, damaged(path, "larger than any record")
	}
	return b, nil
}

// Remove deletes a record and what is kept beside it; one that is not there is
// no error.
func Remove(path string) error {
	_ = os.Remove(path + "~")
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// Names lists the entries of a directory of records, without temporary files
// and kept generations. A directory that is not there has none.
func Names(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if n := e.Name(); !strings.HasPrefix(n, ".") && !strings.HasSuffix(n, "~") {
			names = append(names, n)
		}
	}
	return names, nil
}
