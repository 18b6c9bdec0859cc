package bundle

import (
	"fmt"
	"math"
	"strings"

	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"
)

// The limit of open files of a container that asks for none: davit's own, and
// never that of whoever typed the command.
const (
	softNoFile = 1024
	hardNoFile = 524288
)

// rlimitNumber gives the kernel's number of a ulimit by Docker's name.
func rlimitNumber(name string) (int, bool) {
	n, ok := map[string]int{
		"as": unix.RLIMIT_AS, "core": unix.RLIMIT_CORE, "cpu": unix.RLIMIT_CPU,
		"data": unix.RLIMIT_DATA, "fsize": unix.RLIMIT_FSIZE, "locks": unix.RLIMIT_LOCKS,
		"memlock": unix.RLIMIT_MEMLOCK, "msgqueue": unix.RLIMIT_MSGQUEUE, "nice": unix.RLIMIT_NICE,
		"nofile": unix.RLIMIT_NOFILE, "nproc": unix.RLIMIT_NPROC, "rss": unix.RLIMIT_RSS,
		"rtprio": unix.RLIMIT_RTPRIO, "rttime": unix.RLIMIT_RTTIME,
		"sigpending": unix.RLIMIT_SIGPENDING, "stack": unix.RLIMIT_STACK,
	}[strings.TrimPrefix(strings.ToLower(name), "rlimit_")]
	return n, ok
}

// rlimits sets the record's ulimits and NOFILE, clamped to what the kernel
// lets this process give: without CAP_SYS_RESOURCE no hard limit can be
// raised. oom_score_adj is clamped the same way.
func (b *builder) rlimits() error {
	limits := []configs.Rlimit{{Type: unix.RLIMIT_NOFILE, Soft: softNoFile, Hard: hardNoFile}}
	asked := map[int]string{}
	for _, u := range b.c.Spec.Resources.Ulimits {
		n, ok := rlimitNumber(u.Name)
		if !ok {
			return fmt.Errorf("ulimits: %q is not a limit", u.Name)
		}
		l := configs.Rlimit{Type: n, Soft: limit(u.Soft), Hard: limit(u.Hard)}
		if l.Soft > l.Hard {
			return fmt.Errorf("ulimits.%s: soft %d is above hard %d", u.Name, u.Soft, u.Hard)
		}
		asked[n] = u.Name
		if n == unix.RLIMIT_NOFILE {
			limits[0] = l
		} else {
			limits = append(limits, l)
		}
	}
	for i := range limits {
		b.clamp(&limits[i], asked[limits[i].Type])
	}
	b.out.Config.Rlimits = limits
	b.oomScore()
	return nil
}

func limit(n int64) uint64 {
	if n < 0 {
		return math.MaxUint64
	}
	return uint64(n)
}

func (b *builder) clamp(l *configs.Rlimit, asked string) {
	most := uint64(math.MaxUint64)
	var own unix.Rlimit
	switch f := b.p.Facts; {
	case l.Type == unix.RLIMIT_NOFILE && f.SysResource:
		most = f.MaxOpen
	case l.Type == unix.RLIMIT_NOFILE:
		most = min(f.NoFile, f.MaxOpen)
	case !f.SysResource && unix.Getrlimit(l.Type, &own) == nil:
		most = own.Max
	}
	if l.Hard <= most {
		return
	}
	if asked != "" {
		b.warn("ulimits.%s: hard limit lowered to %d, the most this host gives", asked, most)
	}
	l.Hard, l.Soft = most, min(l.Soft, most)
}

func (b *builder) oomScore() {
	want := b.c.Spec.Resources.OOMScoreAdj
	if f := b.p.Facts; want < f.OOMScoreAdj && !f.SysResource {
		if b.c.Spec.Resources.OOMScoreAdj != 0 {
			b.warn("oom_score_adj: raised to %d, the least this host gives", f.OOMScoreAdj)
		}
		want = f.OOMScoreAdj
	}
	want = max(-1000, min(want, 1000))
	b.out.Config.OomScoreAdj = &want
}
