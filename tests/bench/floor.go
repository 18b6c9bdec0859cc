package main

import (
	"errors"
	"fmt"
	"net"
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
		run  func() (time.Duration, error)
	}{
		{forkAndExec, timed(func() error { return exec.Command("/bin/true").Run() })},
		{"the same in new namespaces", timed(func() error {
			cmd := exec.Command("/bin/true")
			cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: allNamespaces}
			return cmd.Run()
		})},
		{"overlay mount", timed(overlay(filepath.Join(dir, "floor")))},
		{"veth into a new network namespace", timed(veth)},
		{"a bridge with a port and an address taken away", bridgeRemoval},
	}
	var rows []*row
	for _, f := range floors {
		r := &row{name: f.name, times: make([][]time.Duration, 1)}
		for i := range repeats + 1 {
			time.Sleep(idle / 10)
			took, err := f.run()
			if err != nil {
				return nil, fmt.Errorf("floor %s: %w", f.name, err)
			}
			if i > 0 {
				r.times[0] = append(r.times[0], took)
			}
		}
		rows = append(rows, r)
	}
	return rows, nil
}

func timed(do func() error) func() (time.Duration, error) {
	return func() (time.Duration, error) {
		start := time.Now()
		err := do()
		return time.Since(start), err
	}
}

// bridgeRemoval is how long the kernel takes to remove what a network of one
// container was, with nothing of ours beside: it waits for several grace periods
// of RCU (netdev_run_todo of Linux).
func bridgeRemoval() (time.Duration, error) {
	vethNumber++
	name := fmt.Sprintf("dvb%dr%d", os.Getpid()%100000, vethNumber)
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name}}
	if err := netlink.LinkAdd(bridge); err != nil {
		return 0, err
	}
	port := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name + "a", MasterIndex: bridge.Index}, PeerName: name + "b"}
	err := errors.Join(
		netlink.AddrAdd(bridge, &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(198, 18, 0, 1), Mask: net.CIDRMask(24, 32)}}),
		netlink.LinkSetUp(bridge), netlink.LinkAdd(port), netlink.LinkSetUp(port))
	if err != nil {
		return 0, errors.Join(err, netlink.LinkDel(bridge))
	}
	start := time.Now()
	err = netlink.LinkDel(bridge)
	took := time.Since(start)
	return took, errors.Join(err, netlink.LinkDel(port))
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
