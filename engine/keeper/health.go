package keeper

import (
	"cmp"
	"time"

	"github.com/davit-run/davit/engine"
)

// The health words.
const (
	starting  = "starting"
	healthy   = "healthy"
	unhealthy = "unhealthy"
)

// Docker's defaults, and what is kept of the probes.
const (
	defaultInterval      = 30 * time.Second
	defaultTimeout       = 30 * time.Second
	defaultStartInterval = 5 * time.Second
	defaultRetries       = 3
	keptProbes           = 5
	keptOutput           = 4096 // bytes of one probe's output
)

// A Plan is a container's health check with every default filled in.
type Plan struct {
	Args          []string // what runs inside
	Interval      time.Duration
	Timeout       time.Duration
	StartPeriod   time.Duration
	StartInterval time.Duration
	Retries       int
}

// HealthPlan is the health check that a container has: the record's, with the
// image's for what the record leaves open; ok is false when there is none.
func HealthPlan(c *engine.Container) (p Plan, ok bool) {
	h := engine.HealthCheck{}
	if c.Spec.Health != nil {
		h = *c.Spec.Health
	}
	if i := c.ImageConfig.Healthcheck; i != nil {
		if len(h.Test) == 0 {
			h.Test = i.Test
		}
		h.Interval = cmp.Or(h.Interval, engine.Duration(i.Interval))
		h.Timeout = cmp.Or(h.Timeout, engine.Duration(i.Timeout))
		h.StartPeriod = cmp.Or(h.StartPeriod, engine.Duration(i.StartPeriod))
		h.StartInterval = cmp.Or(h.StartInterval, engine.Duration(i.StartInterval))
		h.Retries = cmp.Or(h.Retries, i.Retries)
	}
	args := probeArgs(h.Test, c.ImageConfig.Shell)
	return Plan{
		Args:          args,
		Interval:      cmp.Or(time.Duration(h.Interval), defaultInterval),
		Timeout:       cmp.Or(time.Duration(h.Timeout), defaultTimeout),
		StartPeriod:   time.Duration(h.StartPeriod),
		StartInterval: cmp.Or(time.Duration(h.StartInterval), defaultStartInterval),
		Retries:       cmp.Or(h.Retries, defaultRetries),
	}, len(args) > 0
}

func probeArgs(test, shell []string) []string {
	if len(test) == 0 {
		return nil
	}
	switch test[0] {
	case "NONE":
		return nil
	case "CMD":
		return test[1:]
	case "CMD-SHELL":
		if len(test) < 2 {
			return nil
		}
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-c"}
		}
		return append(append([]string(nil), shell...), test[1])
	}
	return test
}

// Wait is how long after now the next probe begins, for a container in the
// given health that has been up for so long.
func (p Plan) Wait(status string, up time.Duration) time.Duration {
	if up < p.StartPeriod && status == starting {
		return p.StartInterval
	}
	return p.Interval
}

// Judge is the health after one more probe of a container that had been up for
// so long when the probe ended: one success makes it healthy; so many failures
// in a row as Retries say make it unhealthy, those within the start period not
// counted until the first success.
func (p Plan) Judge(h engine.Health, probe engine.Probe, up time.Duration) engine.Health {
	if len(probe.Output) > keptOutput {
		probe.Output = probe.Output[:keptOutput]
	}
	log := append(append([]engine.Probe(nil), h.Log...), probe)
	if len(log) > keptProbes {
		log = log[len(log)-keptProbes:]
	}
	h.Log = log
	switch {
	case probe.ExitCode == 0:
		h.Status, h.Failing = healthy, 0
	case h.Status == starting && up < p.StartPeriod:
	default:
		if h.Failing++; h.Failing >= p.Retries {
			h.Status = unhealthy
		}
	}
	return h
}
