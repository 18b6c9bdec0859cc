package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/layer"
	"github.com/davit-run/davit/engine/runtime"
	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/netdns"
	"github.com/davit-run/davit/netdns/attach"
	"github.com/davit-run/davit/netdns/resolver"
)

// buildNetwork is the network that build steps share. It stands while a step
// runs, and goes with the last one.
const buildNetwork = "davit-build"

// stepMain is `davit-runtime step DATA RUN`: one command of a build. With
// `clean` behind it, it only removes what killed steps left; with `settle`, it
// brings the layers that were built to the disk.
func stepMain(args []string) int {
	if len(args) < 2 {
		return runtime.StepMain("", nil)
	}
	n := stepNetwork{layout: store.Layout{Data: args[0], Run: args[1]}}
	if len(args) == 2 {
		return runtime.StepMain(n.layout.Run, n.open)
	}
	var err error
	switch args[2] {
	case "clean":
		err = n.clean()
	case "settle":
		err = layer.Open(n.layout).Settle()
	default:
		return usage()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// A stepNetwork gives a step a sandbox that reaches out through the host.
type stepNetwork struct{ layout store.Layout }

func (n stepNetwork) lockPath() string { return n.layout.Lock(buildNetwork) }

// open makes the sandbox. Every step holds the network's lock beside the
// others; who gets it alone knows that nobody needs the network any more.
func (n stepNetwork) open(ctx context.Context, step engine.RunStep) (_ *runtime.StepNet, err error) {
	lock, err := store.AcquireShared(ctx, n.lockPath())
	if err != nil {
		return nil, err
	}
	undo := []func() error{func() error { lock.Release(); return n.clean() }}
	closeAll := func() error {
		var errs []error
		for i := len(undo) - 1; i >= 0; i-- {
			errs = append(errs, undo[i]())
		}
		return errors.Join(errs...)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("network of the build: %w", err), closeAll())
		}
	}()
	rec := n.layout.Records()
	h, err := attach.New(rec)
	if err != nil {
		return nil, err
	}
	undo = append(undo, h.Close)
	sum := sha256.Sum256([]byte(buildNetwork))
	if _, err := h.Ensure(ctx, netdns.Network{Name: buildNetwork, ID: hex.EncodeToString(sum[:])}); err != nil {
		return nil, err
	}
	ns, err := h.Sandbox(ctx)
	if err != nil {
		return nil, err
	}
	undo = append(undo, ns.Close)
	ep, err := h.Attach(ctx, ns, netdns.Endpoint{Network: buildNetwork, Container: step.ID, Project: buildNetwork, Name: step.ID, Gateway: true})
	if err != nil {
		return nil, err
	}
	undo = append(undo, func() error { return h.Detach(context.Background(), ep) })
	quiet, err := n.resolve(rec, ns, step.ID)
	if err != nil {
		return nil, err
	}
	undo = append(undo, quiet)
	conf, err := resolvConf()
	if err != nil {
		return nil, err
	}
	return &runtime.StepNet{NS: ns, ResolvConf: conf, Close: closeAll}, nil
}

// resolve answers the step's questions from the host's servers, which may
// listen on the host's loopback alone.
func (n stepNetwork) resolve(rec *store.Records, ns *os.File, id string) (quiet func() error, err error) {
	dir, err := resolver.OpenDirectory(rec)
	if err != nil {
		return nil, err
	}
	socks, err := resolver.Open(ns)
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- resolver.Serve(ctx, socks, resolver.Config{Container: id, Project: buildNetwork, Directory: dir, NS: ns})
	}()
	return func() error {
		stop()
		return errors.Join(<-ended, socks.Close(), dir.Close())
	}, nil
}

// resolvConf leads to our resolver, with the host's search domains.
func resolvConf() ([]byte, error) {
	own, err := os.ReadFile("/etc/resolv.conf")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	conf := "nameserver " + resolver.Address.String() + "\n"
	for line := range strings.Lines(string(own)) {
		if f := strings.Fields(line); len(f) > 1 && (f[0] == "search" || f[0] == "domain") {
			conf += "search " + strings.Join(f[1:], " ") + "\n"
		}
	}
	return []byte(conf + "options ndots:0\n"), nil
}

// clean removes the network when no step is alive, with what is recorded of
// steps that were killed. It is idempotent.
func (n stepNetwork) clean() error {
	if _, err := os.Lstat(n.layout.Network(buildNetwork)); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	lock, err := store.TryAcquire(n.lockPath())
	if errors.Is(err, store.ErrLocked) {
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.ReleaseRemove()
	h, err := attach.New(n.layout.Records())
	if err != nil {
		return err
	}
	err = errors.Join(h.Remove(context.Background(), buildNetwork), h.Close())
	if err != nil {
		return err
	}
	return os.RemoveAll(n.layout.Network(buildNetwork))
}
