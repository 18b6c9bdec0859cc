package runtime

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// sweepAge is how long a step's empty cgroup must have been there to be taken
// for one that a killed step left: a living one is empty for a moment only.
const sweepAge = time.Minute

// SweepSteps removes the cgroups of steps that were killed. What a step has in
// it the kernel keeps.
func SweepSteps() error {
	var errs []error
	for _, pattern := range []string{"/sys/fs/cgroup" + stepParent + "/build-*", "/sys/fs/cgroup/*" + stepParent + "/build-*"} {
		dirs, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		for _, d := range dirs {
			st, err := os.Lstat(d)
			if err != nil || !st.IsDir() || time.Since(st.ModTime()) < sweepAge {
				continue
			}
			err = unix.Rmdir(d)
			if err != nil && !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ENOTEMPTY) {
				errs = append(errs, fmt.Errorf("remove cgroup %s: %w", d, err))
			}
		}
	}
	return errors.Join(errs...)
}
