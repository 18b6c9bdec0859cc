package runtime

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strings"

	"github.com/opencontainers/cgroups"

	"github.com/davit-run/davit/engine"
)

// Stats reads what the container has used, from its cgroups. A controller the
// host has not got leaves zeros.
func (p *Process) Stats() (engine.Stats, error) {
	if p.cg == nil {
		return engine.Stats{}, ErrNotRunning
	}
	s, err := p.cg.GetStats()
	if errors.Is(err, os.ErrNotExist) && !p.cg.Exists() {
		return engine.Stats{}, ErrNotRunning
	}
	if s == nil {
		return engine.Stats{}, fmt.Errorf("read cgroup: %w", err)
	}
	out := engine.Stats{
		CPU:       engine.Duration(s.CpuStats.CpuUsage.TotalUsage),
		CPUUser:   engine.Duration(s.CpuStats.CpuUsage.UsageInUsermode),
		CPUKernel: engine.Duration(s.CpuStats.CpuUsage.UsageInKernelmode),
		Throttled: engine.Duration(s.CpuStats.ThrottlingData.ThrottledTime),
		Memory:    usedMemory(s.MemoryStats), MemoryPeak: s.MemoryStats.Usage.MaxUsage,
		MemoryLimit: bound(s.MemoryStats.Usage.Limit),
		Pids:        s.PidsStats.Current, PidsLimit: bound(s.PidsStats.Limit),
	}
	for _, e := range s.BlkioStats.IoServiceBytesRecursive {
		switch strings.ToLower(e.Op) {
		case "read":
			out.BlockRead += e.Value
		case "write":
			out.BlockWrite += e.Value
		}
	}
	if n, err := p.cg.OOMKillCount(); err == nil {
		out.OOMKills = n
	}
	return out, nil
}

// usedMemory is Docker's figure: the usage without the inactive file cache.
func usedMemory(m cgroups.MemoryStats) uint64 {
	cache := m.Stats["inactive_file"] // v2
	if v, ok := m.Stats["total_inactive_file"]; ok {
		cache = v
	}
	if cache > m.Usage.Usage {
		return m.Usage.Usage
	}
	return m.Usage.Usage - cache
}

// bound is a limit, or 0 for what the kernel writes when there is none.
func bound(n uint64) uint64 {
	if n >= math.MaxInt64/4096*4096 {
		return 0
	}
	return n
}
