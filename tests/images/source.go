package images

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// A source is where the host's own apt finds Debian.
type source struct {
	uri, security string
	suite         string
	keyring       string
	proxy         []string // environment of programs that download
}

// suite is the Debian release that the images are made of.
const suite = "bookworm"

const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// hostSource reads the host's apt configuration. Where it knows no bookworm,
// Debian's own mirrors are used.
func hostSource() (source, error) {
	s := source{
		uri: "http://deb.debian.org/debian", security: "http://deb.debian.org/debian-security",
		suite: suite, keyring: keyring, proxy: proxies(),
	}
	if _, err := os.Stat(keyring); err != nil {
		return s, fmt.Errorf("find Debian's keyring: %w (apt-get install debian-archive-keyring)", err)
	}
	files, _ := filepath.Glob("/etc/apt/sources.list.d/*.sources")
	lists, _ := filepath.Glob("/etc/apt/sources.list.d/*.list")
	for _, name := range append(append(files, "/etc/apt/sources.list"), lists...) {
		b, err := os.ReadFile(name)
		if err != nil {
			continue
		}
		s.learn(string(b))
	}
	return s, nil
}

var (
	oneLine  = regexp.MustCompile(`(?m)^deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s+(.*)$`)
	deb822   = regexp.MustCompile(`(?m)^(URIs|Suites|Components):\s*(.*)$`)
	stanzaOf = regexp.MustCompile(`\n\s*\n`)
)

// learn takes the mirrors out of one file of apt sources, in either form.
func (s *source) learn(text string) {
	for _, m := range oneLine.FindAllStringSubmatch(text, -1) {
		s.note(m[1], m[2], m[3])
	}
	for _, stanza := range stanzaOf.Split(text, -1) {
		f := map[string]string{}
		for _, m := range deb822.FindAllStringSubmatch(stanza, -1) {
			f[m[1]] = m[2]
		}
		for _, suite := range strings.Fields(f["Suites"]) {
			if uris := strings.Fields(f["URIs"]); len(uris) > 0 {
				s.note(uris[0], suite, f["Components"])
			}
		}
	}
}

func (s *source) note(uri, name, components string) {
	if !strings.HasPrefix(uri, "http") || !strings.Contains(" "+components+" ", " main ") {
		return
	}
	switch name {
	case suite:
		s.uri = uri
	case suite + "-security":
		s.security = uri
	}
}

// list is the sources.list of the images.
func (s source) list() string {
	return fmt.Sprintf("deb %[1]s %[3]s main\ndeb %[1]s %[3]s-updates main\ndeb %[2]s %[3]s-security main\n",
		s.uri, s.security, s.suite)
}

// proxies returns http_proxy and its kin, from the environment or from apt.
func proxies() []string {
	var env []string
	for _, k := range []string{"http_proxy", "https_proxy", "no_proxy"} {
		if v := os.Getenv(k); v != "" {
			env = append(env, k+"="+v)
		}
	}
	if len(env) > 0 {
		return env
	}
	out, err := exec.Command("apt-config", "shell", "P", "Acquire::http::Proxy").Output()
	if err != nil {
		return nil
	}
	if v := strings.Trim(strings.TrimPrefix(strings.TrimSpace(string(out)), "P="), "'\""); v != "" {
		return []string{"http_proxy=" + v}
	}
	return nil
}
