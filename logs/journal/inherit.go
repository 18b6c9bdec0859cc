package journal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// The logs of the containers whose place a container took lie beside its own, in
// the directory of that name with this behind it, numbered from 1 on as they
// came. A number that is missing at the beginning was dropped to make room.
const pastSuffix = ".past"

// Inherit hands the log in from, and those that it had inherited itself, on to
// the container whose log is, or will be, in to. Beyond limit bytes the oldest
// ones are removed. Whatever interrupts it, calling it again goes on from there;
// those who are reading the logs read on.
func Inherit(to, from string, limit int64) error {
	if err := inherit(to, from, limit); err != nil {
		return fmt.Errorf("hand on log %s: %w", from, err)
	}
	return nil
}

func inherit(to, from string, limit int64) error {
	have, err := past(to)
	if err != nil {
		return err
	}
	come, err := past(from)
	if err != nil {
		return err
	}
	next := 1
	switch {
	case len(have) > 0:
		next = have[len(have)-1] + 1
	case len(come) > 0:
		next = come[0] // what was dropped before stays told of
	}
	dirs := make([]string, 0, len(come)+1)
	for _, n := range come {
		dirs = append(dirs, pastDir(from, n))
	}
	for _, dir := range append(dirs, from) {
		if !hasOutput(dir) {
			continue
		}
		if err := os.MkdirAll(to+pastSuffix, 0o700); err != nil {
			return err
		}
		if err := os.Rename(dir, pastDir(to, next)); err != nil {
			return err
		}
		next++
	}
	return shrink(to, limit)
}

// hasOutput tells whether a log is worth keeping.
func hasOutput(dir string) bool { return weighDir(dir) > headerSize }

// shrink removes the oldest inherited logs until the others fit.
func shrink(dir string, limit int64) error {
	numbers, err := past(dir)
	if err != nil {
		return err
	}
	var sum int64
	for i, n := range slices.Backward(numbers) {
		if sum += weighDir(pastDir(dir, n)); sum <= limit {
			continue
		}
		for _, old := range numbers[:i+1] {
			if err := os.RemoveAll(pastDir(dir, old)); err != nil {
				return err
			}
		}
		return nil
	}
	return nil
}

// weighDir is the size of a log's files in bytes.
func weighDir(dir string) (sum int64) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			sum += info.Size()
		}
	}
	return sum
}

func pastDir(dir string, n int) string {
	return filepath.Join(dir+pastSuffix, fmt.Sprintf("%08d", n))
}

// past lists the numbers of the logs that the one in dir has inherited, oldest
// first.
func past(dir string) ([]int, error) {
	entries, err := os.ReadDir(dir + pastSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var numbers []int
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil && n > 0 && e.IsDir() && fmt.Sprintf("%08d", n) == e.Name() {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// Past lists the directories of the logs that the one in dir has inherited,
// oldest first.
func Past(dir string) ([]string, error) {
	numbers, err := past(dir)
	if err != nil {
		return nil, fmt.Errorf("list logs before %s: %w", dir, err)
	}
	var dirs []string
	for _, n := range numbers {
		dirs = append(dirs, pastDir(dir, n))
	}
	return dirs, nil
}
