package cli

import "testing"

func TestAllowRemote(t *testing.T) {
	for _, c := range []struct {
		source, address string
		ok              bool
	}{
		{"oci://reg.example.com/team/app:1", "oci://reg.example.com/team/app:1", true},
		{"oci://reg.example.com/team/app", "oci://reg.example.com/team/app:1", true},
		{"oci://reg.example.com/team/app", "oci://reg.example.com/team/app@sha256:00", true},
		{"oci://reg.example.com/team/app", "oci://reg.example.com/team/apple:1", false},
		{"oci://reg.example.com/team", "oci://reg.example.com/team/app:1", true},
		{"oci://reg.example.com/team/", "oci://reg.example.com/team/app:1", true},
		{"oci://reg.example.com/team", "oci://reg.example.com/team/../evil:1", false},
		{"oci://reg.example.com", "oci://reg.example.com:5000/app", false},
		{"oci://reg.example.com", "oci://reg.example.com@evil.com/app", false},
		{"oci://reg.example.com", "oci://reg.example.com.evil.com/app", false},
		{"oci://", "oci://reg.example.com/app", false},
		{"oci", "oci://reg.example.com/app", false},
		{"https://github.com/team", "https://github.com/team/x.git#main:sub", true},
		{"https://github.com/team/x.git", "https://github.com/team/x.git#v1", true},
		{"https://github.com", "https://github.com@evil.com/x.git", false},
		{"https://github.com", "https://github.com:8443/x.git", false},
		{"https://github.com/team", "https://github.com/team/%2e%2e/x.git", false},
		{"https://", "https://github.com/team/x.git", false},
		{"git@github.com:team/x.git", "git@github.com:team/x.git#main", true},
		{"github.com/team", "github.com/team/x#main", true},
		{"github.com", "github.com/team/x#main", true},
		{"git@github.com", "git@github.com:evil/x.git", false},
	} {
		if got := allows(c.source, c.address); got != c.ok {
			t.Errorf("--allow-remote %s for %s: %v", c.source, c.address, got)
		}
		if c.ok && !allows(origin(c.address), c.address) {
			t.Errorf("what is suggested for %s, %s, does not allow it", c.address, origin(c.address))
		}
	}
}

func TestGitAddresses(t *testing.T) {
	for address, want := range map[string][3]string{
		"https://host/x.git":              {"https://host/x.git", "", "."},
		"https://host/x.git#main:sub/c":   {"https://host/x.git", "main", "sub/c"},
		"github.com/team/x#v1":            {"https://github.com/team/x.git", "v1", "."},
		"git@host:team/x.git#:sub":        {"git@host:team/x.git", "", "sub"},
		"https://host/compose.yaml":       {},
		"https://host/x.git#main:../out":  {},
		"https://host/x.git#main:/etc":    {},
		"https://host/x.git#--upload=x:a": {},
		"ssh://git@host/x":                {"ssh://git@host/x", "", "."},
	} {
		url, ref, path, err := repository(address)
		if got := [3]string{url, ref, path}; err == nil && got != want || err != nil && want[0] != "" {
			t.Errorf("%s: %q, %v", address, got, err)
		}
	}
}
