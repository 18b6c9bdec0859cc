//go:build cgo && seccomp

package filter

// The other calls that change or read a filter's rules (seccomp_merge, reset,
// load, export_pfc and their like) are made by nothing in this program.

/*
#cgo pkg-config: libseccomp
#cgo LDFLAGS: -Wl,--wrap=seccomp_init -Wl,--wrap=seccomp_release
#cgo LDFLAGS: -Wl,--wrap=seccomp_arch_add -Wl,--wrap=seccomp_arch_remove -Wl,--wrap=seccomp_attr_set
#cgo LDFLAGS: -Wl,--wrap=seccomp_rule_add_array -Wl,--wrap=seccomp_rule_add_exact_array
#cgo LDFLAGS: -Wl,--wrap=seccomp_syscall_priority -Wl,--wrap=seccomp_export_bpf
#include "wrap.h"
*/
import "C"

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/seccomp"
	"golang.org/x/sys/unix"
)

// Adopt has this process, the init of a container, take its filter from the
// collection that its parent passes to it, if it does. The descriptor keeps
// its place, and is closed when the container's program begins.
func Adopt() {
	var st unix.Stat_t
	if unix.Fstat(sharedFD, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Uid != 0 || st.Size > maxCollection {
		return
	}
	head := int64(len(magic))
	if st.Size <= head {
		return
	}
	b := make([]byte, st.Size)
	if n, err := unix.Pread(sharedFD, b, 0); err != nil || n != len(b) || string(b[:head]) != magic {
		return
	}
	unix.CloseOnExec(sharedFD)
	C.filter_know(C.CBytes(b[head:]), C.size_t(st.Size-head))
}

// Main is `davit-runtime filter`: it reads a profile from standard input as
// JSON and writes what it comes to to standard output.
func Main() int {
	var p configs.Seccomp
	err := json.NewDecoder(io.LimitReader(os.Stdin, 1<<20)).Decode(&p)
	if err == nil {
		C.filter_record()
		_, err = seccomp.InitSeccomp(&p) // ends this process
	}
	fmt.Fprintln(os.Stderr, "compile filter:", err)
	return 1
}

// hits is how many of this process's filters came out of the collection.
func hits() int { return int(C.filter_hits()) }
