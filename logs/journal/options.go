package journal

import (
	"fmt"
	"strconv"
	"strings"
)

// Options bound what a container's log takes on the disk.
type Options struct {
	MaxSize  int64 // bytes per generation, its index included; 0: MaxFiles share 1 GiB
	MaxFiles int   // generations kept; 0: 8, or 1 where MaxSize is given, as Docker has it
}

const (
	defaultTotal = 1 << 30
	defaultFiles = 8
	minSegment   = 4 << 10
)

// bounded fills in what was not said. A log of one file would lose all it has
// at each rotation, so it becomes two of half the size.
func (o Options) bounded() Options {
	switch {
	case o.MaxSize <= 0 && o.MaxFiles <= 0:
		o.MaxFiles = defaultFiles
		o.MaxSize = defaultTotal / defaultFiles
	case o.MaxSize <= 0:
		o.MaxSize = defaultTotal / int64(o.MaxFiles)
	case o.MaxFiles <= 0:
		o.MaxFiles = 1
	}
	if o.MaxFiles == 1 {
		o.MaxFiles, o.MaxSize = 2, o.MaxSize/2
	}
	o.MaxSize = max(o.MaxSize, minSegment)
	return o
}

// Total is what a log may take on the disk, in bytes.
func (o Options) Total() int64 {
	o = o.bounded()
	return o.MaxSize * int64(o.MaxFiles)
}

// OptionsFor reads a service's logging options: max-size and max-file of the
// drivers json-file and local, with Docker's units (k, m, g are powers of two).
// Other options are other drivers' and are passed over. See
// https://docs.docker.com/engine/logging/drivers/json-file/.
func OptionsFor(options map[string]string) (Options, error) {
	var o Options
	if v := options["max-size"]; v != "" && v != "-1" {
		n, err := parseSize(v)
		if err != nil {
			return o, fmt.Errorf("logging option max-size: %w", err)
		}
		o.MaxSize = n
	}
	if v := options["max-file"]; v != "" {
		n, err := strconv.Atoi(v)
		if err != nil || n < 1 {
			return o, fmt.Errorf("logging option max-file: %q is not a number of files", v)
		}
		o.MaxFiles = n
	}
	return o, nil
}

func parseSize(v string) (int64, error) {
	s := strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(strings.TrimSpace(v)), "b"), "i")
	shift := 0
	if s != "" {
		if i := strings.IndexByte("kmgt", s[len(s)-1]); i >= 0 {
			shift, s = 10*(i+1), s[:len(s)-1]
		}
	}
	f, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	n := f * float64(int64(1)<<shift)
	if err != nil || !(n >= 1 && n < 1<<62) {
		return 0, fmt.Errorf("%q is not a size such as 10m", v)
	}
	return int64(n), nil
}
