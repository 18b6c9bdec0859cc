package registry

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func writeConfig(t *testing.T, v any) string {
	t.Helper()
	dir := t.TempDir()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestCredentialsStayHome: a registry that wants a token, and redirects its
// blobs to another host. Only the two who should see a secret see one.
func TestCredentialsStayHome(t *testing.T) {
	f, store := newFaulty(t), newFaulty(t)
	_, layers := f.addImage(t, "v1", noise(10_000, 1))
	store.blobs = f.blobs
	var tokenAuth string
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		tokenAuth = r.Header.Get("Authorization")
		if user, pass, ok := r.BasicAuth(); r.Method == http.MethodPost {
			_ = r.ParseForm()
			tokenAuth = r.Form.Get("username") + ":" + r.Form.Get("password")
		} else if !ok || user != "me" || pass != "secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = w.Write([]byte(`{"token":"letmein","access_token":"letmein"}`))
	}))
	defer tokens.Close()
	f.fault = func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		if r.Header.Get("Authorization") != "Bearer letmein" {
			w.Header().Set("WWW-Authenticate", `Bearer realm="`+tokens.URL+`/token",service="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		if strings.HasSuffix(r.URL.Path, layers[0].Digest) {
			// Another name of this machine: another host to HTTP.
			http.Redirect(w, r, strings.Replace(store.URL, "127.0.0.1", "localhost", 1)+r.URL.Path, http.StatusTemporaryRedirect)
			return true
		}
		return false
	}
	dir := writeConfig(t, map[string]any{"auths": map[string]any{f.host(): map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte("me:secret"))}}})
	if _, err := client(t, testLayout(t), Options{ConfigDir: dir}).Pull(t.Context(), f.host()+"/web:v1", ""); err != nil {
		t.Fatal(err)
	}
	if tokenAuth == "" {
		t.Error("the token server was not asked with credentials")
	}
	if len(store.seen) == 0 {
		t.Error("the redirect was not followed")
	}
	for _, r := range store.seen {
		if a := r.Header.Get("Authorization"); a != "" {
			t.Errorf("the other host was sent %q", a)
		}
	}
}

// TestTokenServerWithoutTLS: a secret is not sent over the network in clear.
func TestTokenServerWithoutTLS(t *testing.T) {
	f := newFaulty(t)
	f.fault = func(w http.ResponseWriter, _ *http.Request, _ []byte) bool {
		w.Header().Set("WWW-Authenticate", `Bearer realm="http://tokens.example/token",service="x"`)
		w.WriteHeader(http.StatusUnauthorized)
		return true
	}
	dir := writeConfig(t, map[string]any{"auths": map[string]any{f.host(): map[string]string{"username": "me", "password": "secret"}}})
	_, err := client(t, testLayout(t), Options{ConfigDir: dir}).Pull(t.Context(), f.host()+"/web:v1", "")
	if err == nil || !strings.Contains(err.Error(), "does not use TLS") {
		t.Errorf("error is %v", err)
	}
}

func TestCredentials(t *testing.T) {
	bin := t.TempDir()
	script := "#!/bin/sh\nread host\n[ \"$host\" = help.example ] || { echo credentials not found in native keychain; exit 1; }\necho '{\"Username\":\"h\",\"Secret\":\"s\"}'\n"
	if err := os.WriteFile(filepath.Join(bin, "docker-credential-test"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	c, err := readConfig(writeConfig(t, map[string]any{
		"auths": map[string]any{
			hubKey:            map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte("hub:pw:with:colons"))},
			"id.example":      map[string]string{"identitytoken": "idtoken"},
			"https://a.b:500": map[string]string{"username": "u", "password": "p"},
			"bad.example":     map[string]string{"auth": "***"},
		},
		"credHelpers": map[string]string{"help.example": "test", "evil.example": "../../sh"},
		"credsStore":  "test",
	}))
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]string{
		"registry-1.docker.io": "hub pw:with:colons", "id.example": " idtoken", "a.b:500": "u p",
		"help.example": "h s", "unknown.example": " ", "b:500": " ",
	} {
		user, secret, err := c.credentials(t.Context(), host)
		if got := user + " " + secret; err != nil || got != want {
			t.Errorf("%s: %q (%v), want %q", host, got, err, want)
		}
	}
	for _, host := range []string{"bad.example", "evil.example"} {
		if _, _, err := c.credentials(t.Context(), host); err == nil {
			t.Errorf("%s: no error", host)
		}
	}
	if c, err := readConfig(t.TempDir()); err != nil || len(c.Auths) > 0 {
		t.Errorf("no file: %+v (%v)", c, err)
	}
}

func TestHostSettings(t *testing.T) {
	path := filepath.Join(t.TempDir(), "daemon.json")
	if err := os.WriteFile(path, []byte(`{"registry-mirrors":["https://m"],"insecure-registries":["r:5000"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	var o Options
	if err := o.readSettings(path, path+"missing"); err != nil || len(o.Mirrors) != 1 || o.Insecure[0] != "r:5000" {
		t.Errorf("%+v (%v)", o, err)
	}
	if _, err := client(t, testLayout(t), Options{Mirrors: []string{"ftp://x"}}).Pull(t.Context(), "redis", ""); err == nil || !strings.Contains(err.Error(), "ftp://x") {
		t.Errorf("a mirror that is no URL: %v", err)
	}
}
