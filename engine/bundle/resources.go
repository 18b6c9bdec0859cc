package bundle

import (
	"fmt"
	"os"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
)

// cfsPeriod is the scheduler's period that cpus is a share of, in µs.
const cfsPeriod = 100_000

// resources turns limits into what the cgroup manager writes. A limit whose
// controller this host has not got is left out with a warning, as Docker does;
// one that makes no sense is an error.
func (b *builder) resources() error {
	r, cg := b.c.Spec.Resources, b.out.Config.Cgroups.Resources
	if err := b.cpu(r, cg); err != nil {
		return err
	}
	if err := b.memory(r, cg); err != nil {
		return err
	}
	if r.PidsLimit != 0 && b.has("pids", "pids_limit") {
		limit := max(r.PidsLimit, -1)
		cg.PidsLimit = &limit
	}
	return b.blkio(r, cg)
}

// has says whether a controller is there, and warns about the field that
// needs it if not.
func (b *builder) has(controller, field string) bool {
	if b.p.Facts.controller(controller) {
		return true
	}
	b.warn("%s is not enforced: this host has no %s cgroup controller", field, controller)
	return false
}

func (b *builder) cpu(r engine.Resources, cg *cgroups.Resources) error {
	if r.NanoCPUs > 0 && (r.CPUQuota != 0 || r.CPUPeriod != 0) {
		return fmt.Errorf("cpus cannot be combined with cpu_quota and cpu_period")
	}
	if (r.NanoCPUs > 0 || r.CPUQuota != 0 || r.CPUPeriod != 0 || r.CPUShares != 0 ||
		r.CPURealtimePeriod != 0 || r.CPURealtimeRun != 0) && b.has("cpu", "the cpu limit") {
		cg.CpuQuota, cg.CpuPeriod = r.CPUQuota, r.CPUPeriod
		if r.NanoCPUs > 0 {
			cg.CpuPeriod, cg.CpuQuota = cfsPeriod, r.NanoCPUs*cfsPeriod/1e9
		}
		cg.CpuShares = r.CPUShares
		cg.CpuWeight = cgroups.ConvertCPUSharesToCgroupV2Value(r.CPUShares)
		cg.CpuRtPeriod, cg.CpuRtRuntime = r.CPURealtimePeriod, r.CPURealtimeRun
	}
	if (r.CpusetCpus != "" || r.CpusetMems != "") && b.has("cpuset", "cpuset") {
		cg.CpusetCpus, cg.CpusetMems = r.CpusetCpus, r.CpusetMems
	}
	return nil
}

// memory follows Docker: with a limit and no memswap_limit, as much swap again.
func (b *builder) memory(r engine.Resources, cg *cgroups.Resources) error {
	if r.Memory > 0 && r.MemorySwap > 0 && r.MemorySwap < r.Memory {
		return fmt.Errorf("memswap_limit must not be smaller than mem_limit")
	}
	if r.MemorySwap > 0 && r.Memory <= 0 {
		return fmt.Errorf("memswap_limit needs mem_limit")
	}
	if r.Memory == 0 && r.MemoryReservation == 0 && r.MemorySwap == 0 &&
		r.MemorySwappiness == nil && !r.OOMKillDisable {
		return nil
	}
	if !b.has("memory", "the memory limit") {
		return nil
	}
	cg.Memory, cg.MemoryReservation = r.Memory, r.MemoryReservation
	switch {
	case r.Memory <= 0:
	case b.p.Facts.SwapLimit:
		cg.MemorySwap = r.MemorySwap
		if r.MemorySwap == 0 {
			cg.MemorySwap = 2 * r.Memory
		}
	case r.MemorySwap > 0:
		b.warn("memswap_limit is not enforced: this kernel does not account swap")
	}
	if b.p.Facts.Unified {
		if r.MemorySwappiness != nil || r.OOMKillDisable {
			b.warn("mem_swappiness and oom_kill_disable do not exist in cgroup v2")
		}
		return nil
	}
	cg.MemorySwappiness, cg.OomKillDisable = r.MemorySwappiness, r.OOMKillDisable
	return nil
}

func (b *builder) blkio(r engine.Resources, cg *cgroups.Resources) error {
	if r.BlkioWeight != 0 || len(r.BlkioWeightDevice) > 0 {
		if b.p.Facts.controller("blkio") && b.p.Facts.BlkioWeight {
			cg.BlkioWeight = r.BlkioWeight
			for _, d := range r.BlkioWeightDevice {
				major, minor, err := blockDevice(d.Path)
				if err != nil {
					return err
				}
				cg.BlkioWeightDevice = append(cg.BlkioWeightDevice, cgroups.NewWeightDevice(major, minor, d.Weight, 0))
			}
		} else {
			b.warn("blkio_config weight is not enforced: this kernel cannot weight block I/O")
		}
	}
	for _, l := range []struct {
		rates []engine.RateDevice
		to    *[]*cgroups.ThrottleDevice
	}{
		{r.ReadBPS, &cg.BlkioThrottleReadBpsDevice}, {r.WriteBPS, &cg.BlkioThrottleWriteBpsDevice},
		{r.ReadIOPS, &cg.BlkioThrottleReadIOPSDevice}, {r.WriteIOPS, &cg.BlkioThrottleWriteIOPSDevice},
	} {
		if len(l.rates) == 0 || !b.has("blkio", "blkio_config") {
			continue
		}
		for _, d := range l.rates {
			major, minor, err := blockDevice(d.Path)
			if err != nil {
				return err
			}
			*l.to = append(*l.to, cgroups.NewThrottleDevice(major, minor, d.Rate))
		}
	}
	return nil
}

func blockDevice(path string) (major, minor int64, err error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return 0, 0, fmt.Errorf("blkio_config: %w", &os.PathError{Op: "stat", Path: path, Err: err})
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return 0, 0, fmt.Errorf("blkio_config: %s is not a block device", path)
	}
	return int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev)), nil
}
