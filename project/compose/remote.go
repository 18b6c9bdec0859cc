package compose

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/davit-run/davit/project"
)

// remoteKind says what kind of remote resource a path names; empty for a
// local file.
func remoteKind(path string) string {
	switch {
	case strings.HasPrefix(path, "oci://"):
		return "OCI artefact"
	case strings.HasPrefix(path, "git://"), strings.HasPrefix(path, "git@"), strings.HasPrefix(path, "ssh://"),
		strings.HasPrefix(path, "github.com/"), strings.HasPrefix(path, "http://"), strings.HasPrefix(path, "https://"):
		return "git repository or URL"
	}
	return ""
}

// refuseRemote is the answer to every remote compose file: what others can
// change must not decide, unasked, what runs here (CVE-2025-62725).
func refuseRemote(path, kind string) *project.Error {
	return &project.Error{
		What: fmt.Sprintf("%q is a remote compose file (%s), and those are refused", path, kind),
		Fix:  "fetch it yourself, look at it, and name the local copy",
	}
}

// A remoteRefuser is the loader's resource loader for everything that is not
// local: the last line of defence behind the check of the files themselves.
type remoteRefuser struct{}

// Accept takes what is remote.
func (remoteRefuser) Accept(path string) bool { return remoteKind(path) != "" }

// Load refuses it.
func (remoteRefuser) Load(_ context.Context, path string) (string, error) {
	return "", refuseRemote(path, remoteKind(path))
}

// Dir is never asked for, because Load always refuses.
func (remoteRefuser) Dir(path string) string { return filepath.Dir(path) }
