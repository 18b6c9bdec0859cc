package bundle

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/opencontainers/cgroups"
	"github.com/opencontainers/runc/libcontainer/capabilities"
	"golang.org/x/sys/unix"
)

// Facts are what this kernel and this process may do, as far as a bundle
// depends on it. They do not change while a process lives.
type Facts struct {
	Unified      bool            // cgroup v2
	Controllers  map[string]bool // the cgroup controllers that can be used
	SwapLimit    bool            // swap can be limited
	BlkioWeight  bool            // block I/O can be weighted
	SysResource  bool            // rlimits and oom_score_adj can be raised at will
	Caps         uint64          // this process's permitted capabilities, a bit each
	NoFile       uint64          // the hard limit of open files here
	MaxOpen      uint64          // fs.nr_open
	OOMScoreAdj  int             // this process's own
	TimeNS       bool
	RecursiveRO  bool // mounts below a read-only one can be made so too
	AppArmor     bool
	ThermalPaths []string // the thermal_throttle directories there are
}

// ReadFacts asks the kernel, once per process.
var ReadFacts = sync.OnceValue(readFacts)

func readFacts() *Facts {
	f := &Facts{
		Unified:     cgroups.IsCgroup2UnifiedMode(),
		Controllers: map[string]bool{},
		MaxOpen:     1 << 20,
	}
	if f.Unified {
		for _, c := range strings.Fields(readString("/sys/fs/cgroup/cgroup.controllers")) {
			f.Controllers[c] = true
		}
		f.SwapLimit = exists("/proc/swaps")
		f.BlkioWeight = f.Controllers["io"]
	} else {
		f.readV1()
	}
	f.Caps = permittedCaps()
	f.SysResource = f.Caps&(1<<unix.CAP_SYS_RESOURCE) != 0
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) == nil {
		f.NoFile = lim.Max
	}
	if n, err := strconv.ParseUint(readString("/proc/sys/fs/nr_open"), 10, 64); err == nil {
		f.MaxOpen = n
	}
	f.OOMScoreAdj, _ = strconv.Atoi(readString("/proc/self/oom_score_adj"))
	f.RecursiveRO = unix.MountSetattr(-1, "", unix.AT_EMPTY_PATH, &unix.MountAttr{}) != unix.ENOSYS
	f.TimeNS = exists("/proc/self/ns/time")
	f.AppArmor = readString("/sys/module/apparmor/parameters/enabled") == "Y"
	f.ThermalPaths, _ = filepath.Glob("/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle")
	return f
}

func (f *Facts) readV1() {
	mounts, err := cgroups.GetCgroupMounts(true)
	if err != nil {
		return
	}
	for _, m := range mounts {
		for _, s := range m.Subsystems {
			f.Controllers[s] = true
			switch s {
			case "memory":
				f.SwapLimit = exists(filepath.Join(m.Mountpoint, "memory.memsw.limit_in_bytes"))
			case "blkio":
				f.BlkioWeight = exists(filepath.Join(m.Mountpoint, "blkio.weight")) ||
					exists(filepath.Join(m.Mountpoint, "blkio.bfq.io_service_bytes")) // the weight itself is not in the root
			}
		}
	}
}

// controller says whether a controller can be used, in the names of v1.
func (f *Facts) controller(name string) bool {
	if f.Unified && name == "blkio" {
		name = "io"
	}
	return f.Controllers[name]
}

// holds returns those of names that this process itself holds; nobody can give
// a capability away that it has not got.
func (f *Facts) holds(names []string) []string {
	if f.Caps == 0 {
		return names
	}
	known := capabilities.KnownCapabilities()
	var out []string
	for _, n := range names {
		if i := slices.Index(known, n); i >= 0 && f.Caps&(1<<i) != 0 {
			out = append(out, n)
		}
	}
	return out
}

func permittedCaps() uint64 {
	h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var d [2]unix.CapUserData
	if unix.Capget(&h, &d[0]) != nil {
		return 0
	}
	return uint64(d[0].Permitted) | uint64(d[1].Permitted)<<32
}

func exists(path string) bool { return unix.Access(path, unix.F_OK) == nil }

func readString(path string) string {
	b, _ := os.ReadFile(path)
	return strings.TrimSpace(string(b))
}
