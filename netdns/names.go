package netdns

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strings"
)

// StandardDir is the record directory of the installation that owns the
// firewall table without a suffix.
const StandardDir = "/var/lib/davit"

// LinkPrefix begins the name of every link that any davit puts on a host.
const LinkPrefix = "dv"

// A Tag stands for one davit installation (one record directory) in the names
// of kernel objects, so that several on a host never touch each other's. It has
// four letters or digits.
type Tag string

// TagOf returns the tag of the installation whose records lie in dir.
func TagOf(dir string) Tag { return Tag(digest(strings.TrimRight(dir, "/"), 4)) }

// Table is the name of the installation's firewall table in family inet.
func (t Tag) Table() string {
	if t == TagOf(StandardDir) {
		return "davit"
	}
	return "davit_" + string(t)
}

// Bridge names a network's bridge. Link names have at most 15 characters
// (IFNAMSIZ less the final NUL).
func (t Tag) Bridge(networkID string) string {
	return LinkPrefix + "b" + string(t) + digest(networkID, 8)
}

// Port names the host's end of a container's veth pair on a network.
func (t Tag) Port(container, networkID string) string {
	return LinkPrefix + "p" + string(t) + digest(container+"\x00"+networkID, 8)
}

// Bridges is how the names of all this installation's bridges begin.
func (t Tag) Bridges() string { return LinkPrefix + "b" + string(t) }

// Ports is how the names of all this installation's veth ends begin.
func (t Tag) Ports() string { return LinkPrefix + "p" + string(t) }

func digest(s string, n int) string {
	sum := sha256.Sum256([]byte(s))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:]))[:n]
}

// CheckName refuses a network or interface name that could leave the place it
// is used in: a path, a rule, a netlink attribute (CVE-2021-20206).
func CheckName(kind, name string, most int) error {
	if name == "" || len(name) > most || name == "." || name == ".." {
		return fmt.Errorf("%s name %.80q: use 1 to %d of a-z A-Z 0-9 _ . -", kind, name, most)
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		word := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
		if !word && (i == 0 || c != '.' && c != '-') {
			return fmt.Errorf("%s name %.80q: use 1 to %d of a-z A-Z 0-9 _ . -", kind, name, most)
		}
	}
	return nil
}
