package artifact

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// A Finding is something in a file that looks like a secret.
type Finding struct {
	Line int
	Kind string // such as "AWS access key"
}

// A kind of secret, by the form that whoever issues it has given it.
type kind struct {
	name    string
	pattern *regexp.Regexp
}

var kinds = sync.OnceValue(func() []kind {
	var out []kind
	for _, k := range [][2]string{
		{"AWS access key", `\b(A3T[A-Z0-9]|AKIA|ASIA|AGPA|AIDA|AROA|AIPA|ANPA|ANVA)[A-Z0-9]{16}\b`},
		{"AWS secret key", `(?i)aws.{0,30}['"\s=:][0-9a-z/+]{40}([^0-9a-z/+]|$)`},
		{"GitHub token", `\b(gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{50,})\b`},
		{"GitLab token", `\bglpat-[A-Za-z0-9_-]{20,}\b`},
		{"Slack token", `\bxox[abeoprs]-[A-Za-z0-9-]{10,}\b`},
		{"Google API key", `\bAIza[A-Za-z0-9_-]{35}\b`},
		{"JSON Web Token", `\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*`},
		{"private key", `-----BEGIN ([A-Z]+ )*PRIVATE KEY( BLOCK)?-----`},
		{"password in a URL", `\b[a-z][a-z0-9+.-]*://[^\s/:@"'$]+:[^\s/@"'$]+@`},
		{"password", `(?i)(password|passwd|secret|token|api_?key)["']?\s*[=:]\s*["']?[^\s"'$<{/]{8,}`},
	} {
		out = append(out, kind{k[0], regexp.MustCompile(k[1])})
	}
	return out
})

// Sensitive looks for what should not be published, one finding a line. What
// ${…} stands for is not in the file, and so is not found.
func Sensitive(content []byte) []Finding {
	var out []Finding
	for i, line := range bytes.Split(content, []byte{'\n'}) {
		if text := strings.TrimSpace(string(line)); strings.HasPrefix(text, "#") {
			continue
		}
		at := slices.IndexFunc(kinds(), func(k kind) bool { return k.pattern.Match(line) })
		if at >= 0 {
			out = append(out, Finding{Line: i + 1, Kind: kinds()[at].name})
		}
	}
	return out
}
