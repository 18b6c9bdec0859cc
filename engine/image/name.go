package image

import (
	"fmt"
	"strings"

	"github.com/distribution/reference"
)

// Normalise returns the full form of an image name as Docker understands it:
// redis is docker.io/library/redis:latest. A name with both tag and digest
// keeps the digest, which alone decides.
func Normalise(name string) (string, error) {
	ref, err := reference.ParseDockerRef(name)
	if err != nil {
		return "", fmt.Errorf("image name %q: %w", name, err)
	}
	return ref.String(), nil
}

// Familiar returns the short form of a full name: redis:latest.
func Familiar(name string) string {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return reference.FamiliarString(ref)
}

// Repository is a full name without tag and digest.
func Repository(name string) string {
	ref, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return name
	}
	return ref.Name()
}

// isDigest tells whether s is sha256: and 64 hex digits.
func isDigest(s string) bool {
	hex, ok := strings.CutPrefix(s, "sha256:")
	return ok && len(hex) == 64 && isHex(hex)
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return s != ""
}
