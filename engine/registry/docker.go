package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"
)

// dockerSocket is where Docker's engine listens unless DOCKER_HOST says
// otherwise.
const dockerSocket = "/var/run/docker.sock"

// A Docker is a Docker engine on this host, asked over its API socket.
type Docker struct {
	Socket string // path of the unix socket
	client *http.Client
}

// FindDocker returns this host's Docker engine: at the unix socket that
// dockerHost (the value of DOCKER_HOST) names, or at the usual one. It does
// not ask whether one is there.
func FindDocker(dockerHost string) (*Docker, error) {
	path := dockerSocket
	if dockerHost != "" {
		var ok bool
		if path, ok = strings.CutPrefix(dockerHost, "unix://"); !ok || path == "" {
			return nil, fmt.Errorf("docker engine at %q: only one on this host can be asked, by unix:///PATH: unset DOCKER_HOST, or use \"docker save\" there and \"davit load\" here", dockerHost)
		}
	}
	d := &Docker{Socket: path}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{Timeout: 10 * time.Second}).DialContext(ctx, "unix", path)
	}
	// An image is written to Docker's disk before the first byte comes.
	d.client = &http.Client{Transport: &http.Transport{DialContext: dial, DisableCompression: true, ResponseHeaderTimeout: 10 * time.Minute}}
	return d, nil
}

// Save returns the archive of images by their names in that engine, as docker
// save writes it; the caller closes it.
func (d *Docker) Save(ctx context.Context, names ...string) (io.ReadCloser, error) {
	// Unversioned paths mean the engine's own version of the API.
	address := "http://docker/images/get?" + url.Values{"names": names}.Encode()
	what := "take " + strings.Join(names, ", ") + " from Docker"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	resp, err := d.client.Do(req)
	if err != nil {
		return nil, d.unreachable(what, err)
	}
	if resp.StatusCode == http.StatusOK {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	return nil, fmt.Errorf("%s: %s", what, dockerMessage(resp))
}

func (d *Docker) unreachable(what string, err error) error {
	switch {
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w", what, err)
	case errors.Is(err, os.ErrPermission):
		return failure("run davit as root, or as a member of the group docker", "%s: no permission to use %s", what, d.Socket)
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return failure("start it, or name its socket in DOCKER_HOST", "%s: no Docker engine listens at %s", what, d.Socket)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// dockerMessage is what the engine says of a request that failed.
func dockerMessage(resp *http.Response) string {
	var said struct{ Message string }
	err := json.NewDecoder(io.LimitReader(resp.Body, maxToken)).Decode(&said)
	if err != nil || said.Message == "" {
		return "the engine answers " + resp.Status
	}
	return said.Message
}
