package keeper

import (
	"time"

	"github.com/davit-run/davit/engine"
)

// The waits of Docker's restart manager (moby restartmanager.go): the first,
// the longest, and how long a container must have run for the next wait to be
// the first again.
const (
	firstWait   = 100 * time.Millisecond
	longestWait = time.Minute
	goodRun     = 10 * time.Second
)

// An Ending is how one run of a container ended.
type Ending struct {
	Code  int           // exit code
	Ran   time.Duration // how long it ran
	Asked bool          // a person or a plan ended it
	// Unhealthy: the policy ended it because its probes failed. It runs again
	// whatever else the policy says, and however long it ran, the wait grows.
	Unhealthy bool
}

// A Streak is what the restart policy remembers between runs.
type Streak struct {
	Wait  time.Duration // the last wait; 0: none yet
	Count int           // restarts so far
}

// Next says whether a container that ended so runs again, after which wait,
// and what to remember. The wait doubles with every run shorter than ten
// seconds, up to a minute; a fixed delay replaces it.
func Next(p engine.RestartPolicy, e Ending, s Streak) (wait time.Duration, again bool, next Streak) {
	window := goodRun
	if p.Window > 0 {
		window = time.Duration(p.Window)
	}
	switch {
	case e.Ran >= window && !e.Unhealthy, s.Wait == 0:
		s.Wait = firstWait
	default:
		s.Wait = min(2*s.Wait, longestWait)
	}
	if e.Asked || !wanted(p, e, s) {
		return 0, false, s
	}
	s.Count++
	if p.Delay > 0 {
		return time.Duration(p.Delay), true, s
	}
	return s.Wait, true, s
}

func wanted(p engine.RestartPolicy, e Ending, s Streak) bool {
	if e.Unhealthy && p.Unhealthy {
		return true
	}
	switch p.Mode {
	case "always", "unless-stopped":
		return true
	case "on-failure":
		return e.Code != 0 && (p.MaxRetries == 0 || s.Count < p.MaxRetries)
	}
	return false
}
