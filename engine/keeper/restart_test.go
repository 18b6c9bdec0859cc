package keeper

import (
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/davit-run/davit/engine"
)

func TestNext(t *testing.T) {
	type row struct {
		policy engine.RestartPolicy
		end    Ending
		before Streak
		wait   time.Duration
		again  bool
	}
	ms := time.Millisecond
	for name, r := range map[string]row{
		"no policy, no restart":                   {engine.RestartPolicy{}, Ending{Code: 1}, Streak{}, 0, false},
		"no means no":                             {engine.RestartPolicy{Mode: "no"}, Ending{Code: 1}, Streak{}, 0, false},
		"always after success":                    {engine.RestartPolicy{Mode: "always"}, Ending{}, Streak{}, 100 * ms, true},
		"the user asked":                          {engine.RestartPolicy{Mode: "always"}, Ending{Asked: true}, Streak{}, 0, false},
		"unless-stopped is always until asked":    {engine.RestartPolicy{Mode: "unless-stopped"}, Ending{}, Streak{}, 100 * ms, true},
		"on-failure leaves success alone":         {engine.RestartPolicy{Mode: "on-failure"}, Ending{}, Streak{}, 0, false},
		"on-failure restarts a failure":           {engine.RestartPolicy{Mode: "on-failure"}, Ending{Code: 3}, Streak{}, 100 * ms, true},
		"on-failure:2 restarts twice":             {engine.RestartPolicy{Mode: "on-failure", MaxRetries: 2}, Ending{Code: 3}, Streak{100 * ms, 1}, 200 * ms, true},
		"on-failure:2 gives up then":              {engine.RestartPolicy{Mode: "on-failure", MaxRetries: 2}, Ending{Code: 3}, Streak{200 * ms, 2}, 0, false},
		"the wait doubles":                        {engine.RestartPolicy{Mode: "always"}, Ending{}, Streak{400 * ms, 3}, 800 * ms, true},
		"the wait has a ceiling":                  {engine.RestartPolicy{Mode: "always"}, Ending{}, Streak{51200 * ms, 10}, time.Minute, true},
		"a run of ten seconds resets the wait":    {engine.RestartPolicy{Mode: "always"}, Ending{Ran: 10 * time.Second}, Streak{time.Minute, 20}, 100 * ms, true},
		"but not the count":                       {engine.RestartPolicy{Mode: "on-failure", MaxRetries: 2}, Ending{Code: 1, Ran: time.Hour}, Streak{100 * ms, 2}, 0, false},
		"a fixed delay replaces the wait":         {engine.RestartPolicy{Mode: "always", Delay: engine.Duration(3 * time.Second)}, Ending{}, Streak{800 * ms, 4}, 3 * time.Second, true},
		"a window says what a good run is":        {engine.RestartPolicy{Mode: "always", Window: engine.Duration(time.Second)}, Ending{Ran: time.Second}, Streak{800 * ms, 4}, 100 * ms, true},
		"unhealthy comes back when asked to":      {engine.RestartPolicy{Unhealthy: true}, Ending{Code: 143, Unhealthy: true}, Streak{}, 100 * ms, true},
		"unhealthy alone restarts nothing":        {engine.RestartPolicy{}, Ending{Code: 143, Unhealthy: true}, Streak{}, 0, false},
		"unhealthy backs off however long it ran": {engine.RestartPolicy{Unhealthy: true}, Ending{Code: 1, Ran: time.Hour, Unhealthy: true}, Streak{800 * ms, 4}, 1600 * ms, true},
		"unhealthy and stopped stays down":        {engine.RestartPolicy{Unhealthy: true}, Ending{Asked: true, Unhealthy: true}, Streak{}, 0, false},
		"a window longer than the default holds":  {engine.RestartPolicy{Mode: "always", Window: engine.Duration(time.Minute)}, Ending{Ran: 20 * time.Second}, Streak{800 * ms, 4}, 1600 * ms, true},
	} {
		wait, again, _ := Next(r.policy, r.end, r.before)
		if wait != r.wait || again != r.again {
			t.Errorf("%s: wait %v, again %v; want %v, %v", name, wait, again, r.wait, r.again)
		}
	}
}

// moby is Docker's restart manager (restartmanager/restartmanager.go), line by
// line, as the model.
type moby struct {
	mode         string
	max          int
	timeout      time.Duration
	restartCount int
}

func (rm *moby) shouldRestart(exitCode int, manuallyStopped bool, ran time.Duration) (bool, time.Duration) {
	if rm.mode == "" || rm.mode == "no" {
		return false, 0
	}
	if ran.Seconds() >= 10 {
		rm.timeout = 0
	}
	switch {
	case rm.timeout == 0:
		rm.timeout = 100 * time.Millisecond
	case rm.timeout < time.Minute:
		rm.timeout *= 2
	}
	if rm.timeout > time.Minute {
		rm.timeout = time.Minute
	}
	var restart bool
	switch {
	case rm.mode == "always":
		restart = !manuallyStopped // Docker cancels the manager instead
	case rm.mode == "unless-stopped" && !manuallyStopped:
		restart = true
	case rm.mode == "on-failure" && !manuallyStopped:
		if rm.max == 0 || rm.restartCount < rm.max {
			restart = exitCode != 0
		}
	}
	if !restart {
		return false, 0
	}
	rm.restartCount++
	return true, rm.timeout
}

func TestNextIsDockersRestartManager(t *testing.T) {
	histories := 10_000
	if os.Getenv("DAVIT_LONG") != "" {
		histories = 100_000
	}
	r := rand.New(rand.NewPCG(1, 2))
	modes := []string{"", "no", "always", "on-failure", "unless-stopped"}
	for h := range histories {
		p := engine.RestartPolicy{Mode: modes[r.IntN(len(modes))], MaxRetries: r.IntN(6)}
		if p.Mode != "on-failure" {
			p.MaxRetries = 0
		}
		model, s := &moby{mode: p.Mode, max: p.MaxRetries}, Streak{}
		for step := range 30 {
			e := Ending{Code: r.IntN(3), Ran: time.Duration(r.IntN(12_000)) * time.Millisecond, Asked: r.IntN(40) == 0}
			again, wait := model.shouldRestart(e.Code, e.Asked, e.Ran)
			gotWait, gotAgain, next := Next(p, e, s)
			if gotAgain != again || gotWait != wait {
				t.Fatalf("history %d, step %d: policy %+v, end %+v, before %+v: wait %v again %v; Docker %v %v", h, step, p, e, s, gotWait, gotAgain, wait, again)
			}
			if s = next; !again {
				break
			}
		}
	}
}
