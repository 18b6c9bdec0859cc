package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// forkAndExec is the floor that times without a peer are compared by.
const forkAndExec = "fork and exec"

// allNamespaces is what a container gets.
const allNamespaces = syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC |
	syscall.CLONE_NEWNET | syscall.CLONE_NEWCGROUP

// measureFloors measures what no runner can go below on this machine: the
// kernel's share of a container, step by step.
func measureFloors(dir string, repeats int) ([]*row, error) {
	floors := []struct {
		name string
		run  func() error
	}{
		{forkAndExec, func() error { return exec.Command("/bin/true").Run() }},
		{"the same in new namespaces", func() error {
			cmd := exec.Command("/bin/true")
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: allNamespaces}
			return cmd.Run()
		}},
		{"overlay mount", overlay(filepath.Join(dir, "floor"))},
		{"veth into a new network namespace", veth},
	}
	var rows []*row
	for _, f := range floors {
		r := &row{name: f.name, times: make([][]time.Duration, 1)}
		for i := range repeats + 1 {
			time.Sleep(idle / 10)
			start := time.Now()
			if err := f.run(); err != nil {
				return nil, fmt.Errorf("floor %s: %w", f.name, err)
			}
			if i > 0 {
				r.times[0] = append(r.times[0], time.Since(start))
			}
		}
		rows = append(rows, r)
	}
	return rows, nil
}

func overlay(dir string) func() error {
	return func() error {
		for _, d := range []string{"lower", "upper", "work", "merged"} {
			if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
				return err
			}
		}
		at := func(d string) string { return filepath.Join(dir, d) }
		data := "lowerdir=" + at("lower") + ",upperdir=" + at("upper") + ",workdir=" + at("work")
		if err := unix.Mount("overlay", at("merged"), "overlay", 0, data); err != nil {
			return err
		}
		return unix.Unmount(at("merged"), unix.MNT_DETACH)
	}
}

// vethNumber keeps the names apart of pairs that the kernel is still removing.
var vethNumber int

// veth makes a network namespace with one end of a pair in it, on a thread that
// ends with it.
func veth() error {
	vethNumber++
	name := fmt.Sprintf("dvb%dx%d", os.Getpid()%100000, vethNumber)
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		result <- func() error {
			host, err := os.Open("/proc/thread-self/ns/net")
			if err != nil {
				return err
			}
			defer host.Close()
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				return err
			}
			return netlink.LinkAdd(&netlink.Veth{
				LinkAttrs:     netlink.LinkAttrs{Name: "eth0"},
				PeerName:      name,
				PeerNamespace: netlink.NsFd(int(host.Fd())),
			})
		}()
	}()
	return <-result
}
