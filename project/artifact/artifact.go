package artifact

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// The types by which docker compose knows a published project.
const (
	Type       = "application/vnd.docker.compose.project"              // of the artefact, image-spec v1.1
	ConfigType = "application/vnd.docker.compose.config.empty.v1+json" // of its configuration, v1.0
	FileType   = "application/vnd.docker.compose.file+yaml"            // of a compose file
	EnvType    = "application/vnd.docker.compose.envfile"              // of an env_file
)

const (
	version  = "com.docker.compose.version"
	fileName = "com.docker.compose.file"
	envName  = "com.docker.compose.envfile"
	extended = "com.docker.compose.extends"
)

// MainFile is what Unpack calls the compose files that are merged.
const MainFile = "compose.yaml"

// A Part is one file: its type, what it says about it, and its content.
type Part struct {
	MediaType   string
	Annotations map[string]string
	Content     []byte
}

// ComposeFile is a compose file as a part. One that others extend is written
// beside the main ones, under its name, instead of merged.
func ComposeFile(name, composeVersion string, content []byte, isExtended bool) Part {
	p := Part{MediaType: FileType, Content: content, Annotations: map[string]string{version: composeVersion, fileName: filepath.Base(name)}}
	if isExtended {
		p.Annotations[extended] = "true"
	}
	return p
}

// EnvFile is an env_file as a part.
func EnvFile(name, composeVersion string, content []byte) Part {
	return Part{MediaType: EnvType, Content: content, Annotations: map[string]string{version: composeVersion, envName: filepath.Base(name)}}
}

// Unpack writes parts into an empty directory: the compose files one after the
// other as documents of one, the others under the names that they bring. A
// name that is more than one component is refused before anything is written
// (CVE-2025-62725).
func Unpack(dir *os.Root, parts []Part) error {
	var main [][]byte
	beside := map[string][]byte{}
	for _, p := range parts {
		name, merged, err := p.place()
		switch {
		case err != nil:
			return err
		case merged:
			main = append(main, p.Content)
		case name == "": // of a type that means nothing here
		case name == MainFile || beside[name] != nil:
			return fmt.Errorf("two files are called %q", name)
		default:
			beside[name] = append([]byte{}, p.Content...)
		}
	}
	if len(main) == 0 {
		return fmt.Errorf("there is no compose file in it")
	}
	beside[MainFile] = bytes.Join(main, []byte("\n---\n"))
	for name, content := range beside {
		if err := dir.WriteFile(name, content, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// place is where a part goes.
func (p Part) place() (name string, merged bool, err error) {
	switch p.MediaType {
	case FileType:
		name = p.Annotations[fileName]
		if _, ext := p.Annotations[extended]; !ext {
			if name == "" {
				return "", true, nil
			}
			return "", true, checkName(name)
		}
	case EnvType:
		name = p.Annotations[envName]
	default:
		return "", false, nil
	}
	return name, false, checkName(name)
}

func checkName(name string) error {
	if !filepath.IsLocal(name) || name == "." || strings.ContainsAny(name, "/\\\x00") || len(name) > 255 {
		return fmt.Errorf("%.80q is not the name of a file: it would lead out of the artefact", name)
	}
	return nil
}
