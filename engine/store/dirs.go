package store

import (
	"errors"
	"io/fs"
	"os"
)

// MakeDirs is os.MkdirAll, although others may be removing the directories above
// the last one at this moment, as long as nothing is in them.
func MakeDirs(dir string, mode os.FileMode) error {
	err := fs.ErrNotExist
	for try := 0; errors.Is(err, fs.ErrNotExist) && try < 1000; try++ {
		err = os.MkdirAll(dir, mode)
	}
	return err
}
