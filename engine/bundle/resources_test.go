package bundle

import (
	"path/filepath"
	"testing"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
)

func TestResources(t *testing.T) {
	swappiness := uint64(7)
	r := engine.Resources{NanoCPUs: 1_500_000_000, Memory: 1 << 30, PidsLimit: -5, CPUShares: 512, MemorySwappiness: &swappiness}
	v1 := &Facts{Controllers: map[string]bool{"cpu": true, "memory": true, "pids": true}, SwapLimit: true}
	b, err := Build(container(engine.Spec{Resources: r}), Place{Facts: v1, Cgroup: "/x"})
	if err != nil {
		t.Fatal(err)
	}
	cg := b.Config.Cgroups
	if cg.CpuQuota != 150000 || cg.CpuPeriod != 100000 || cg.Memory != 1<<30 || cg.MemorySwap != 2<<30 ||
		*cg.PidsLimit != -1 || cg.CpuShares != 512 || cg.CpuWeight == 0 || *cg.MemorySwappiness != 7 || len(b.Warnings) != 0 {
		t.Errorf("%+v %q", cg.Resources, b.Warnings)
	}
	b, err = Build(container(engine.Spec{Resources: r}), Place{Facts: &Facts{Unified: true, Controllers: map[string]bool{}}, Cgroup: "/x"})
	if err != nil || b.Config.Cgroups.Memory != 0 || len(b.Warnings) != 3 {
		t.Errorf("without controllers: %q %v", b.Warnings, err)
	}
	for _, bad := range []engine.Resources{
		{NanoCPUs: 1, CPUQuota: 1}, {Memory: 2 << 20, MemorySwap: 1 << 20}, {MemorySwap: 1 << 20},
		{ReadBPS: []engine.RateDevice{{Path: "/dev/null", Rate: 1}}},
	} {
		if _, err := Build(container(engine.Spec{Resources: bad}), Place{Facts: &Facts{Controllers: map[string]bool{"blkio": true}}, Cgroup: "/x"}); err == nil {
			t.Errorf("%+v was let through", bad)
		}
	}
}

// What few kernels have: real-time shares, weights of block devices, and a
// memory controller that can be told not to kill.
func TestRareResources(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "disk")
	if err := unix.Mknod(disk, unix.S_IFBLK|0o600, int(unix.Mkdev(7, 77))); err != nil {
		t.Skipf("make a block device node: %v", err)
	}
	rate := func(n uint64) []engine.RateDevice { return []engine.RateDevice{{Path: disk, Rate: n}} }
	r := engine.Resources{
		CPURealtimePeriod: 1000000, CPURealtimeRun: 950000, CPUQuota: 50000, CPUPeriod: 200000, CpusetCpus: "0", CpusetMems: "0",
		Memory: 64 << 20, MemoryReservation: 32 << 20, MemorySwap: -1, OOMKillDisable: true,
		BlkioWeight: 300, BlkioWeightDevice: []engine.WeightDevice{{Path: disk, Weight: 400}},
		ReadBPS: rate(1), WriteBPS: rate(2), ReadIOPS: rate(3), WriteIOPS: rate(4),
	}
	all := map[string]bool{"cpu": true, "cpuset": true, "memory": true, "blkio": true, "io": true}
	b, err := Build(container(engine.Spec{Resources: r}), Place{Facts: &Facts{Controllers: all, SwapLimit: true, BlkioWeight: true}, Cgroup: "/x"})
	if err != nil {
		t.Fatal(err)
	}
	cg := b.Config.Cgroups.Resources
	if cg.CpuRtPeriod != 1000000 || cg.CpuRtRuntime != 950000 || cg.CpuQuota != 50000 || cg.CpuPeriod != 200000 || cg.CpusetCpus != "0" || cg.CpusetMems != "0" {
		t.Errorf("cpu %+v", cg)
	}
	if cg.Memory != 64<<20 || cg.MemoryReservation != 32<<20 || cg.MemorySwap != -1 || !cg.OomKillDisable {
		t.Errorf("memory %+v", cg)
	}
	if cg.BlkioWeight != 300 || len(cg.BlkioWeightDevice) != 1 || cg.BlkioWeightDevice[0].WeightString() != "7:77 400" {
		t.Errorf("weights %+v", cg)
	}
	for want, got := range map[string][]*cgroups.ThrottleDevice{
		"7:77 1": cg.BlkioThrottleReadBpsDevice, "7:77 2": cg.BlkioThrottleWriteBpsDevice,
		"7:77 3": cg.BlkioThrottleReadIOPSDevice, "7:77 4": cg.BlkioThrottleWriteIOPSDevice,
	} {
		if len(got) != 1 || got[0].String() != want {
			t.Errorf("rate %v, want %s", got, want)
		}
	}
	if len(b.Warnings) != 0 {
		t.Errorf("warnings %q", b.Warnings)
	}
	b, err = Build(container(engine.Spec{Resources: r}), Place{Facts: &Facts{Unified: true, Controllers: all, SwapLimit: true}, Cgroup: "/x"})
	if err != nil || b.Config.Cgroups.OomKillDisable || b.Config.Cgroups.BlkioWeight != 0 || len(b.Warnings) != 2 {
		t.Errorf("what cgroup v2 does not have: %q, %v", b.Warnings, err)
	}
}
