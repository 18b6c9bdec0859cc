package bundle

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// maxProfile bounds a seccomp profile read from a file, in bytes.
const maxProfile = 1 << 20

// options are the security options of a record, parsed.
type options struct {
	noNewPrivileges bool
	seccomp         string // "", unconfined, builtin, or the profile's JSON
	apparmor        string
	labels          []string
	bareSystemPaths bool
	writableCgroups bool
}

// options parses security_opt as Docker writes it: name=value, or name:value
// in its old form.
func (b *builder) options() error {
	b.opts.noNewPrivileges = b.c.Spec.Security.Tight
	for _, o := range b.c.Spec.Security.Options {
		if err := b.opts.parse(o); err != nil {
			return fmt.Errorf("security_opt %q: %w", o, err)
		}
	}
	return nil
}

func (o *options) parse(s string) error {
	name, value, ok := strings.Cut(s, "=")
	if !ok {
		name, value, ok = strings.Cut(s, ":")
	}
	switch name {
	case "no-new-privileges":
		return flag(&o.noNewPrivileges, value, ok)
	case "writable-cgroups":
		return flag(&o.writableCgroups, value, ok)
	case "seccomp":
		text, err := readProfile(value)
		o.seccomp = text
		return err
	case "apparmor":
		o.apparmor = value
	case "label":
		o.labels = append(o.labels, value)
	case "systempaths":
		if value != "unconfined" {
			return fmt.Errorf("the only value is systempaths=unconfined")
		}
		o.bareSystemPaths = true
	default:
		return fmt.Errorf("not an option; use seccomp=, apparmor=, label=, no-new-privileges, systempaths=unconfined or writable-cgroups")
	}
	return nil
}

func flag(to *bool, value string, given bool) error {
	switch {
	case !given, value == "true":
		*to = true
	case value == "false":
		*to = false
	default:
		return fmt.Errorf("use true or false")
	}
	return nil
}

// readProfile returns the JSON of a seccomp profile given by name, in place, or as
// the absolute path of a file.
func readProfile(value string) (string, error) {
	if value == "unconfined" || value == "builtin" || strings.HasPrefix(value, "{") {
		return value, nil
	}
	if !filepath.IsAbs(value) {
		return "", fmt.Errorf("a profile is unconfined, builtin, JSON or an absolute path")
	}
	f, err := os.OpenFile(value, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return "", fmt.Errorf("%s: not a regular file", value)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxProfile+1))
	if err != nil {
		return "", err
	}
	if len(text) > maxProfile {
		return "", fmt.Errorf("%s: larger than any profile", value)
	}
	return string(text), nil
}
