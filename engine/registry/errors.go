package registry

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/containerd/containerd/v2/core/remotes/docker"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
)

var (
	// ErrUnreachable means that no registry answered.
	ErrUnreachable = errors.New("no registry could be reached")
	// ErrNotFound means that the registry has no such image.
	ErrNotFound = errors.New("the registry has no such image")
	// ErrDenied means that the registry wants other credentials, or none of ours.
	ErrDenied = errors.New("the registry refuses access")
)

// A Failure is what went wrong with a registry, and what to do about it.
type Failure struct {
	Err error  // what and why, without the advice
	Fix string // the next thing to try
}

// Error is what, why and what to do, in one line.
func (f *Failure) Error() string { return f.Err.Error() + ": " + f.Fix }

// Unwrap returns what went wrong.
func (f *Failure) Unwrap() error { return f.Err }

func failure(fix, format string, args ...any) error {
	return &Failure{Err: fmt.Errorf(format, args...), Fix: fix}
}

// unreachable tells whether an error says that nobody was there to answer.
func unreachable(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	return errors.As(err, &dns) || errors.As(err, &op) && op.Op == "dial"
}

func isDiskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// explain says of a failure what, why and what to do, in one line.
func (c *Client) explain(verb, ref string, err error) error {
	host := Host(ref)
	status := 0
	var unexpected remoteerrors.ErrUnexpectedStatus
	if errors.As(err, &unexpected) {
		status = unexpected.StatusCode
	}
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded) && !unreachable(err):
		return fmt.Errorf("%s %s: %w", verb, ref, err)
	case unreachable(err):
		return failure("check the network, or take the image from an archive with: davit load -i ARCHIVE",
			"%s %s: %w at %s (%s)", verb, ref, ErrUnreachable, host, reason(err))
	case errors.Is(err, docker.ErrInvalidAuthorization), errdefs.IsUnauthorized(err), errdefs.IsPermissionDenied(err),
		status == http.StatusUnauthorized, status == http.StatusForbidden:
		return failure("the image may not exist, or you must first: davit login "+host, "%s %s: %w", verb, ref, ErrDenied)
	case errdefs.IsNotFound(err), status == http.StatusNotFound:
		return failure("check its name and tag", "%s %s: %w", verb, ref, ErrNotFound)
	case status == http.StatusTooManyRequests:
		return failure("wait a while; who has logged in (davit login "+host+") is often allowed more", "%s %s: %s answers that it was asked too often", verb, ref, host)
	case isDiskFull(err):
		return failure("free some space (davit system prune), and try again", "%s %s: %w", verb, ref, err)
	}
	return fmt.Errorf("%s %s: %w", verb, ref, err)
}

// Host is the registry in a reference.
func Host(ref string) string {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return ref
	}
	return reference.Domain(named)
}

// reason is the innermost words of an error: the outer ones repeat the URL.
func reason(err error) string {
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return "cannot look up " + dns.Name
	}
	var op *net.OpError
	if errors.As(err, &op) {
		return strings.TrimSpace(op.Error())
	}
	return err.Error()
}
