package ops

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/moby/buildkit/solver/pb"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/engine/store/inroot"
)

// maxDownload bounds a file that ADD fetches, in bytes.
const maxDownload = 32 << 30

// An httpOp is a file that ADD fetches. Its content counts, not its address: a
// server's ETag and Last-Modified only spare the transfer.
type httpOp struct {
	host  *Host
	url   string
	attrs map[string]string
}

func (o *httpOp) Key() (string, error)                  { return "", nil }
func (o *httpOp) Inputs([]Snapshot) ([]InputKey, error) { return nil, nil }

// A download is what is remembered of a file that was fetched.
type download struct {
	ETag     string    `json:"etag,omitempty"`
	Modified string    `json:"modified,omitempty"` // Last-Modified as the server wrote it
	Name     string    `json:"name"`
	Digest   string    `json:"digest"`
	Layer    string    `json:"layer"`
	Fetched  time.Time `json:"fetched"`
}

// Run implements Op.
func (o *httpOp) Run(ctx context.Context, _ []Snapshot, _ Output) ([]Snapshot, error) {
	record := filepath.Join(o.host.CacheDir, "http", Hash("http", o.url, fmt.Sprint(o.attrs)))
	known := new(download)
	if store.Read(record, known) != nil || !o.host.Layers.Has(known.Layer) {
		known = nil
	}
	d, err := o.fetch(ctx, known)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", o.url, err)
	}
	if want := o.attrs[pb.AttrHTTPChecksum]; want != "" && want != "sha256:"+d.Digest {
		return nil, fmt.Errorf("fetch %s: its checksum is sha256:%s, not %s", o.url, d.Digest, want)
	}
	if err := os.MkdirAll(filepath.Dir(record), 0o700); err != nil {
		return nil, err
	}
	if err := store.WriteUnsynced(record, d); err != nil {
		return nil, err
	}
	key := Hash("http", d.Name, d.Digest, d.Modified, o.attrs[pb.AttrHTTPPerm], o.attrs[pb.AttrHTTPUID], o.attrs[pb.AttrHTTPGID])
	return []Snapshot{{Key: key, Layers: []string{d.Layer}}}, nil
}

func (o *httpOp) fetch(ctx context.Context, known *download) (*download, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, o.url, nil)
	if err != nil {
		return nil, err
	}
	if known != nil && known.ETag != "" {
		req.Header.Set("If-None-Match", known.ETag)
	} else if known != nil && known.Modified != "" {
		req.Header.Set("If-Modified-Since", known.Modified)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotModified && known != nil {
		return known, nil
	}
	if resp.StatusCode != http.StatusOK {
		return nil, errors.New("the server answered " + resp.Status)
	}
	return o.keep(resp)
}

// keep writes the body into a layer that holds this one file.
func (o *httpOp) keep(resp *http.Response) (*download, error) {
	d := &download{ETag: resp.Header.Get("ETag"), Modified: resp.Header.Get("Last-Modified"), Name: o.filename(resp), Fetched: time.Now().UTC()}
	draft, err := o.host.Layers.NewDraft()
	if err != nil {
		return nil, err
	}
	defer draft.Discard()
	root, err := inroot.Open(draft.FS)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.OpenFile(d.Name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(f, h), io.LimitReader(resp.Body, maxDownload+1))
	if err != nil {
		return nil, err
	}
	if n > maxDownload {
		return nil, fmt.Errorf("larger than %d bytes", int64(maxDownload))
	}
	d.Digest = hex.EncodeToString(h.Sum(nil))
	if err := o.attributes(f, d.Modified); err != nil {
		return nil, err
	}
	d.Layer, err = o.host.commit(draft)
	return d, err
}

func (o *httpOp) attributes(f *os.File, modified string) error {
	uid, _ := strconv.Atoi(o.attrs[pb.AttrHTTPUID])
	gid, _ := strconv.Atoi(o.attrs[pb.AttrHTTPGID])
	if err := f.Chown(uid, gid); err != nil {
		return err
	}
	mode := fs.FileMode(0o600)
	if v, err := strconv.ParseUint(o.attrs[pb.AttrHTTPPerm], 0, 32); err == nil {
		mode = fs.FileMode(v).Perm()
	}
	if err := f.Chmod(mode); err != nil {
		return err
	}
	when := time.Unix(0, 0)
	if t, err := http.ParseTime(modified); err == nil {
		when = t
	}
	tv := unix.NsecToTimeval(when.UnixNano())
	return unix.Futimes(int(f.Fd()), []unix.Timeval{tv, tv})
}

// filename is the name that the file gets: what the instruction says, then what
// the server says, then the end of the address; one path element in any case.
func (o *httpOp) filename(resp *http.Response) string {
	names := []string{o.attrs[pb.AttrHTTPFilename]}
	if _, params, err := mime.ParseMediaType(resp.Header.Get("Content-Disposition")); err == nil {
		names = append(names, params["filename"])
	}
	if u, err := url.Parse(o.url); err == nil {
		names = append(names, path.Base(u.Path))
	}
	for _, n := range names {
		n = path.Base(strings.ReplaceAll(n, "\\", "/"))
		if n != "." && n != "/" && n != ".." && n != "" && !strings.ContainsRune(n, 0) {
			return n
		}
	}
	return "download"
}
