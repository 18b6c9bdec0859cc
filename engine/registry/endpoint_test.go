package registry

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/davit-run/davit/engine/image"
)

// certsDir writes files of a registry's folder, and returns the one above.
func certsDir(t *testing.T, registry string, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, registry), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, registry, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// secure serves the registry with TLS, under a name that is not this
// machine's, as davit is generous to localhost.
func (f *faulty) secure(t *testing.T) (host string, dial map[string]string, ca string) {
	t.Helper()
	f.Server.Close()
	f.Server = httptest.NewTLSServer(f)
	t.Cleanup(f.Close)
	addr := strings.TrimPrefix(f.URL, "https://")
	ca = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.Certificate().Raw}))
	return "example.com" + addr[strings.LastIndex(addr, ":"):], map[string]string{"example.com": addr}, ca
}

// redirected is a client to whom a name means a test server.
func redirected(t *testing.T, o Options, to map[string]string) *Client {
	t.Helper()
	c := client(t, testLayout(t), o)
	c.plain.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		host, _, _ := net.SplitHostPort(addr)
		return (&net.Dialer{}).DialContext(ctx, network, to[host])
	}
	return c
}

// TestPrivateCertificates: a registry whose certificate only its folder
// vouches for, in Docker's layout and in containerd's.
func TestPrivateCertificates(t *testing.T) {
	f := newFaulty(t)
	f.addImage(t, "v1", "small")
	host, to, ca := f.secure(t)
	under := strings.Replace(host, ":", "_", 1) + "_"
	for name, c := range map[string]struct {
		dir  string
		want string
	}{
		"no folder":           {t.TempDir(), "certificate"},
		"docker":              {certsDir(t, host, map[string]string{"ca.crt": ca}), ""},
		"containerd":          {certsDir(t, host, map[string]string{"hosts.toml": `ca = "my.pem"`, "my.pem": ca}), ""},
		"without a colon":     {certsDir(t, under, map[string]string{"hosts.toml": `ca = ["my.pem"]`, "my.pem": ca}), ""},
		"default":             {certsDir(t, "_default", map[string]string{"ca.crt": ca}), ""},
		"skip_verify":         {certsDir(t, host, map[string]string{"hosts.toml": `skip_verify = true`}), ""},
		"not a certificate":   {certsDir(t, host, map[string]string{"ca.crt": "hello"}), "ca.crt: no certificate"},
		"key is missing":      {certsDir(t, host, map[string]string{"a.cert": ca}), "a.cert"},
		"broken file":         {certsDir(t, host, map[string]string{"hosts.toml": "server = ["}), "hosts.toml"},
		"unknown capability":  {certsDir(t, host, map[string]string{"hosts.toml": `capabilities = ["fly"]`}), `"fly" is not a capability`},
		"server is no URL":    {certsDir(t, host, map[string]string{"hosts.toml": `server = "ftp://x"`}), "not an http or https URL"},
		"ca of another shape": {certsDir(t, host, map[string]string{"hosts.toml": `ca = 5`}), "neither a string"},
	} {
		_, err := redirected(t, Options{HostDirs: []string{filepath.Join(c.dir, "none"), c.dir}}, to).Pull(t.Context(), host+"/web:v1", "")
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error is %v, want %q", name, err, c.want)
		}
	}
}

// TestClientCertificate: a registry that lets in only who shows one.
func TestClientCertificate(t *testing.T) {
	f := newFaulty(t)
	f.addImage(t, "v1", "small")
	f.fault = func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
			w.WriteHeader(http.StatusForbidden)
			return true
		}
		return false
	}
	f.Server.Close()
	f.Server = httptest.NewUnstartedServer(f)
	f.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	f.StartTLS()
	t.Cleanup(f.Close)
	host := strings.TrimPrefix(f.URL, "https://")
	cert, key := clientPair(t)
	for name, c := range map[string]struct {
		files map[string]string
		ok    bool
	}{
		"none":                 {map[string]string{"hosts.toml": `skip_verify = true`}, false},
		"docker's layout":      {map[string]string{"client.cert": cert, "client.key": key, "ca.crt": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.Certificate().Raw}))}, true},
		"one file":             {map[string]string{"hosts.toml": "skip_verify = true\nclient = \"both.pem\"", "both.pem": cert + key}, true},
		"a pair of two files":  {map[string]string{"hosts.toml": "skip_verify = true\nclient = [[\"c.pem\", \"k.pem\"]]", "c.pem": cert, "k.pem": key}, true},
		"a file of a list":     {map[string]string{"hosts.toml": "skip_verify = true\nclient = [\"both.pem\"]", "both.pem": cert + key}, true},
		"three files for both": {map[string]string{"hosts.toml": "skip_verify = true\nclient = [[\"a\", \"b\", \"c\"]]"}, false},
	} {
		_, err := client(t, testLayout(t), Options{HostDirs: []string{certsDir(t, host, c.files)}}).Pull(t.Context(), host+"/web:v1", "")
		if (err == nil) != c.ok {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

// TestMirrorsOfHostsFile: mirrors are asked in their order, with their
// headers, for what they can do, and the registry itself at last.
func TestMirrorsOfHostsFile(t *testing.T) {
	empty, full, itself := newFaulty(t), newFaulty(t), newFaulty(t)
	full.addImage(t, "7", "small")
	itself.addImage(t, "8", "small")
	hosts := `
server = "` + itself.URL + `"
[host."` + empty.URL + `"]
  capabilities = ["pull", "resolve"]
  [host."` + empty.URL + `".header]
    X-Team = "shop"
[host."` + full.URL + `/cache"]
  capabilities = ["pull", "resolve"]
`
	o := Options{HostDirs: []string{certsDir(t, "docker.io", map[string]string{"hosts.toml": hosts})}, Mirrors: []string{"https://unused.example"}}
	for _, ref := range []string{"redis:7", "redis:8"} {
		l := testLayout(t)
		if _, err := client(t, l, o).Pull(t.Context(), ref, ""); err != nil {
			t.Fatal(err)
		}
		if img, err := image.Open(l).Resolve(ref); err != nil || img.Names[0] != "docker.io/library/"+ref {
			t.Errorf("resolved %+v (%v)", img, err)
		}
	}
	if len(empty.seen) == 0 || empty.seen[0].Header.Get("X-Team") != "shop" || empty.seen[0].URL.Query().Get("ns") != "docker.io" {
		t.Errorf("the first mirror was asked %d times", len(empty.seen))
	}
	if len(full.seen) == 0 || !strings.HasPrefix(full.seen[0].URL.Path, "/cache/v2/library/redis/") {
		t.Errorf("the second mirror was asked %d times", len(full.seen))
	}
	for _, r := range itself.seen {
		if strings.HasSuffix(r.URL.Path, "/7") {
			t.Errorf("the registry was asked for what a mirror had: %s", r.URL)
		}
	}
}

// clientPair is a certificate to show, and its key, in PEM.
func clientPair(t *testing.T) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	raw, err := x509.CreateCertificate(rand.Reader, about, about, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	return encode("CERTIFICATE", raw), encode("EC PRIVATE KEY", secret)
}
