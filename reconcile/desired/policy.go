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
