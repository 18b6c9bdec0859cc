package render

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"

	"github.com/davit-run/davit/engine"
)

// StatsColumns are the columns of stats, under docker's names.
var StatsColumns = []Column{
	{"CONTAINER ID", "ID"}, {"NAME", "Name"}, {"CPU %", "CPUPerc"}, {"MEM USAGE / LIMIT", "MemUsage"},
	{"MEM %", "MemPerc"}, {"NET I/O", "NetIO"}, {"BLOCK I/O", "BlockIO"}, {"PIDS", "PIDs"},
}

// A Usage is what a container, or several together, used at one moment, and
// between then and a moment before.
type Usage struct {
	engine.Stats
	Received, Sent uint64        // bytes through its network
	Busy           time.Duration // of processor time in Span
	Span           time.Duration
}

// Add counts another's use as this one's.
func (u *Usage) Add(o Usage) {
	u.Memory += o.Memory
	u.Pids += o.Pids
	u.BlockRead += o.BlockRead
	u.BlockWrite += o.BlockWrite
	u.Received += o.Received
	u.Sent += o.Sent
	u.Busy += o.Busy
	u.Span = max(u.Span, o.Span)
	if o.MemoryLimit == 0 || u.MemoryLimit == 0 && u.Pids != o.Pids {
		u.MemoryLimit = 0
		return
	}
	u.MemoryLimit += o.MemoryLimit
}

// Stats is one row of stats.
func Stats(id, name string, u Usage) map[string]any {
	limit := u.MemoryLimit
	if host := hostMemory(); limit == 0 || host > 0 && limit > host {
		limit = host
	}
	return map[string]any{
		"ID": id, "Container": id, "Name": name,
		"CPUPerc":  percent(float64(u.Busy), float64(u.Span)),
		"MemUsage": units.CustomSize("%.4g%s", float64(u.Memory), 1024, binary) + " / " + units.CustomSize("%.4g%s", float64(limit), 1024, binary),
		"MemPerc":  percent(float64(u.Memory), float64(limit)),
		"NetIO":    units.HumanSizeWithPrecision(float64(u.Received), 3) + " / " + units.HumanSizeWithPrecision(float64(u.Sent), 3),
		"BlockIO":  units.HumanSizeWithPrecision(float64(u.BlockRead), 3) + " / " + units.HumanSizeWithPrecision(float64(u.BlockWrite), 3),
		"PIDs":     strconv.FormatUint(u.Pids, 10),
	}
}

var binary = []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}

func percent(part, whole float64) string {
	if whole <= 0 {
		return "0.00%"
	}
	return fmt.Sprintf("%.2f%%", 100*part/whole)
}

// hostMemory is the machine's, in bytes (proc_meminfo(5)); 0 where nobody
// tells.
func hostMemory() uint64 {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if rest, ok := strings.CutPrefix(lines.Text(), "MemTotal:"); ok {
			n, _ := strconv.ParseUint(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return n * 1024
		}
	}
	return 0
}
