// Command davit-runtime is what runs beside containers and inside their first
// moments: anchor, keeper, init, exec, build step and PID 1, as it is asked.
package main

import (
	"fmt"
	"os"
	goruntime "runtime"
	"runtime/debug"
	"unsafe"

	"github.com/opencontainers/runc/libcontainer"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine/keeper/anchor"
	"github.com/davit-run/davit/engine/runtime"
	"github.com/davit-run/davit/engine/runtime/filter"
)

// version is set by the linker.
var version = "dev"

// The main goroutine stays on the main thread: libcontainer leaves whichever
// thread opens mount sources in the container's mount namespace, and a process
// whose main thread is in a dead container's has lost its own (its /proc/PID
// then shows that one).
func init() { goruntime.LockOSThread() }

func main() {
	if len(os.Args) > 1 && os.Args[1] == "init" {
		debug.SetGCPercent(-1) // it lives for milliseconds
		filter.Adopt()
		libcontainer.Init() // does not return
	}
	os.Exit(run(os.Args[1:]))
}

func run(args []string) int {
	if len(args) == 0 {
		return usage()
	}
	switch args[0] {
	case "anchor", "keeper":
		// Run by a descriptor, the process would be named after its number.
		_ = unix.Prctl(unix.PR_SET_NAME, uintptr(unsafe.Pointer(unsafe.StringData("davit-"+args[0]+"\x00"))), 0, 0, 0)
	}
	switch args[0] {
	case "anchor":
		return anchor.Main(args[1:])
	case "keeper":
		return keeperMain(args[1:])
	case "exec":
		return runtime.ExecMain(args[1:])
	case "step":
		return stepMain(args[1:])
	case "view":
		return runtime.ViewMain(args[1:])
	case "filter":
		return filter.Main()
	case "version":
		fmt.Println(version)
		return 0
	}
	return usage()
}

func usage() int {
	fmt.Fprintln(os.Stderr, "davit-runtime is started by davit, never by hand; see davit --help")
	return 2
}
