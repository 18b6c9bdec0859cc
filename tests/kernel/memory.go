package kernel

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// PSS returns a process's proportional share of memory in bytes (proc_pid_smaps(5)).
func PSS(pid int) (int64, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if v, ok := strings.CutPrefix(lines.Text(), "Pss:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(v)[0], 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("memory of process %d: no Pss in smaps_rollup", pid)
}
