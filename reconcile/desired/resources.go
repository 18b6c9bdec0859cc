package desired

import (
	"maps"
	"math"
	"slices"

	"github.com/docker/go-units"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/project"
)

// resources are the limits of a service's containers; deploy's win where both
// are given, and the loader has seen to it that they agree.
func resources(s *project.Service) engine.Resources {
	r := engine.Resources{
		NanoCPUs:          nano(s.CPUS),
		CPUShares:         uint64(max(s.CPUShares, 0)),
		CPUQuota:          s.CPUQuota,
		CPUPeriod:         uint64(max(s.CPUPeriod, 0)),
		CPURealtimePeriod: uint64(max(s.CPURTPeriod, 0)),
		CPURealtimeRun:    s.CPURTRuntime,
		CpusetCpus:        s.CPUSet,
		Memory:            s.MemLimit,
		MemoryReservation: s.MemReservation,
		MemorySwap:        s.MemSwapLimit,
		PidsLimit:         s.PidsLimit,
		OOMKillDisable:    s.OomKillDisable,
		OOMScoreAdj:       int(s.OomScoreAdj),
		Ulimits:           ulimits(s.Ulimits),
		ShmSize:           s.ShmSize,
		CgroupParent:      s.CgroupParent,
	}
	if s.MemSwappiness != 0 {
		v := uint64(s.MemSwappiness)
		r.MemorySwappiness = &v
	}
	if size, err := units.RAMInBytes(s.StorageOpt["size"]); err == nil {
		r.StorageSize = size
	}
	if s.Deploy != nil {
		deployed(&r, s.Deploy.Resources)
	}
	if s.BlkioConfig != nil {
		blockIO(&r, s.BlkioConfig)
	}
	return r
}

func deployed(r *engine.Resources, d project.Resources) {
	if l := d.Limits; l != nil {
		if l.NanoCPUs != 0 {
			r.NanoCPUs = nano(l.NanoCPUs)
		}
		if l.MemoryBytes != 0 {
			r.Memory = l.MemoryBytes
		}
		if l.Pids != 0 {
			r.PidsLimit = l.Pids
		}
	}
	if l := d.Reservations; l != nil && l.MemoryBytes != 0 {
		r.MemoryReservation = l.MemoryBytes
	}
}

// nano turns CPUs into billionths of one. The files' numbers arrive as 32-bit
// floats, so that what lies below a thousandth of a CPU is noise.
func nano(cpus float32) int64 {
	return int64(math.Round(float64(cpus)*1e3)) * 1e6
}

func blockIO(r *engine.Resources, b *project.Blkio) {
	r.BlkioWeight = b.Weight
	for _, d := range b.WeightDevice {
		r.BlkioWeightDevice = append(r.BlkioWeightDevice, engine.WeightDevice{Path: d.Path, Weight: d.Weight})
	}
	r.ReadBPS = rates(b.DeviceReadBps)
	r.WriteBPS = rates(b.DeviceWriteBps)
	r.ReadIOPS = rates(b.DeviceReadIOps)
	r.WriteIOPS = rates(b.DeviceWriteIOps)
}

func rates(devices []project.ThrottleDevice) []engine.RateDevice {
	var out []engine.RateDevice
	for _, d := range devices {
		out = append(out, engine.RateDevice{Path: d.Path, Rate: uint64(max(d.Rate, 0))})
	}
	return out
}

func ulimits(m map[string]*project.Ulimit) []engine.Ulimit {
	var out []engine.Ulimit
	for _, name := range slices.Sorted(maps.Keys(m)) {
		u := m[name]
		if u == nil {
			continue
		}
		soft, hard := u.Soft, u.Hard
		if u.Single != 0 {
			soft, hard = u.Single, u.Single
		}
		out = append(out, engine.Ulimit{Name: name, Soft: int64(soft), Hard: int64(hard)})
	}
	return out
}
