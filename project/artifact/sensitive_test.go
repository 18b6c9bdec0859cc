package artifact

import (
	"strings"
	"testing"
)

func TestSensitive(t *testing.T) {
	// The tokens are put together here, so that no scanner takes this file for a leak.
	for line, want := range map[string]string{
		"AWS_ACCESS_KEY_ID: AKIA" + strings.Repeat("A1", 8):                      "AWS access key",
		"AWS_SECRET_ACCESS_KEY: " + strings.Repeat("aB3/", 10):                   "AWS secret key",
		"T=ghp_" + strings.Repeat("a1", 18):                                      "GitHub token",
		"x: eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0In0" + ".c2ln":             "JSON Web Token",
		"-----BEGIN OPENSSH PRIVATE" + " KEY-----":                               "private key",
		"url: postgres://ann:" + "hunter22@db/app":                               "password in a URL",
		"  POSTGRES_PASSWORD: correct-horse":                                     "password",
		"POSTGRES_PASSWORD=${PASSWORD:?}":                                        "",
		"url: postgres://ann:${PASSWORD}@db/app":                                 "",
		"secrets: [token]":                                                       "",
		"      - POSTGRES_PASSWORD_FILE=/run/secrets/password":                   "",
		"# password: something-long":                                             "",
		"image: registry.example.com:5000/app@sha256:" + strings.Repeat("0", 64): "",
	} {
		got := ""
		if found := Sensitive([]byte("first\n" + line + "\n")); len(found) > 0 {
			got = found[0].Kind
			if found[0].Line != 2 || len(found) > 1 {
				t.Errorf("%s: %+v", line, found)
			}
		}
		if got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}
