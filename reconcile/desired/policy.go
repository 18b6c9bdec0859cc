package desired

import (
	"strconv"
	"strings"
	"time"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/project"
)

// restart is what happens after an exit: deploy's policy beats restart.
func restart(s *project.Service) engine.RestartPolicy {
	var p engine.RestartPolicy
	if s.Deploy != nil && s.Deploy.RestartPolicy != nil {
		p = deployRestart(s.Deploy.RestartPolicy)
	} else {
		mode, max, _ := strings.Cut(s.Restart, ":")
		p.Mode = mode
		if n, err := strconv.Atoi(max); err == nil {
			p.MaxRetries = n
		}
		if p.Mode == "no" {
			p.Mode = ""
		}
	}
	p.Unhealthy = s.Extensions["x-on-unhealthy"] == "restart"
	return p
}

func deployRestart(d *project.RestartPolicy) engine.RestartPolicy {
	p := engine.RestartPolicy{}
	switch d.Condition {
	case "none":
	case "on-failure":
		p.Mode = "on-failure"
	default: // any, as docker compose takes it
		p.Mode = "unless-stopped"
	}
	if d.MaxAttempts != nil {
		p.MaxRetries = int(*d.MaxAttempts)
	}
	p.Delay = duration(d.Delay)
	p.Window = duration(d.Window)
	return p
}

// health is a service's probe. Zero values are filled in from the image's own
// when the container is made.
func health(h *project.HealthCheck) *engine.HealthCheck {
	if h == nil {
		return nil
	}
	if h.Disable {
		return &engine.HealthCheck{Test: []string{"NONE"}}
	}
	out := &engine.HealthCheck{
		Test:          h.Test,
		Interval:      duration(h.Interval),
		Timeout:       duration(h.Timeout),
		StartPeriod:   duration(h.StartPeriod),
		StartInterval: duration(h.StartInterval),
	}
	if h.Retries != nil {
		out.Retries = int(*h.Retries)
	}
	return out
}

func duration(d *time.Duration) engine.Duration {
	if d == nil {
		return 0
	}
	return engine.Duration(*d)
}

// ages are the spans of the policies that name one.
var ages = map[string]time.Duration{"daily": 24 * time.Hour, "weekly": 7 * 24 * time.Hour}

// refreshAfter is how old an image may get before its registry is asked again:
// what the policy says, or under refresh pull_refresh_after, a day without.
func (b *builder) refreshAfter(s *project.Service) time.Duration {
	words, every := strings.CutPrefix(s.PullPolicy, "every_")
	key := "services." + s.Name + ".pull_policy"
	switch {
	case every:
	case s.PullPolicy == "refresh" && s.PullRefreshAfter != "":
		words, key = s.PullRefreshAfter, "services."+s.Name+".pull_refresh_after"
	case s.PullPolicy == "refresh":
		return ages["daily"]
	default:
		return ages[s.PullPolicy]
	}
	d, err := span(words)
	if err != nil {
		b.wrong(key, "write it such as 12h, 3d or 1w2d", "%q is not a span of time", words)
	}
	return d
}

// span reads a duration that may count weeks and days, such as 1w2d12h.
func span(s string) (time.Duration, error) {
	var sum time.Duration
	for unit, length := range map[string]time.Duration{"w": ages["weekly"], "d": ages["daily"]} {
		if !strings.Contains(s, unit) {
			continue
		}
		at := strings.Index(s, unit)
		from := strings.LastIndexAny(s[:at], "wdhms") + 1
		n, err := strconv.ParseUint(s[from:at], 10, 16)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(n) * length
		s = s[:from] + s[at+1:]
	}
	if s == "" {
		return sum, nil
	}
	rest, err := time.ParseDuration(s)
	if err == nil && rest < 0 {
		err = strconv.ErrRange
	}
	return sum + rest, err
}
