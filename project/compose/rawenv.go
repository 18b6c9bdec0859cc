package compose

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"sync"
	"unicode"

	"github.com/compose-spec/compose-go/v2/dotenv"
)

// registerRaw teaches the library env_file's format: raw, which docker compose
// brings along rather than the library: lines as they are, no quotes, no ${…}.
var registerRaw = sync.OnceFunc(func() { dotenv.RegisterFormat("raw", rawEnv) })

func rawEnv(r io.Reader, filename string, vars map[string]string, lookup func(string) (string, bool)) error {
	scan := bufio.NewScanner(r)
	scan.Buffer(nil, 1<<20)
	for n := 1; scan.Scan(); n++ {
		line := strings.TrimLeftFunc(strings.TrimPrefix(scan.Text(), "\uFEFF"), unicode.IsSpace)
		if line == "" || line[0] == '#' {
			continue
		}
		key, value, given := strings.Cut(line, "=")
		if key == "" || strings.ContainsFunc(key, unicode.IsSpace) {
			return fmt.Errorf("%s:%d: %q is not a variable's name", filename, n, shorten(key))
		}
		if !given {
			if value, given = lookup(key); !given {
				continue
			}
		}
		vars[key] = value
	}
	return scan.Err()
}
