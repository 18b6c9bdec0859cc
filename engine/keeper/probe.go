package keeper

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
)

// beginHealth starts the clock of the container's health check, if it has one.
func (c *container) beginHealth() {
	c.state.Health, c.health = nil, nil
	p, ok := HealthPlan(c.rec)
	if !ok {
		return
	}
	c.health = &p
	c.state.Health = &engine.Health{Status: starting}
	c.scheduleProbe()
}

// scheduleProbe sets when the next probe begins.
func (c *container) scheduleProbe() {
	if c.health == nil || c.live == nil || c.state.Health == nil {
		return
	}
	c.check.set(c.health.Wait(c.state.Health.Status, time.Since(c.live.since)))
}

func (c *container) pauseHealth() {
	c.check.stop()
	if c.probing != nil {
		c.probing()
	}
}

func (c *container) endHealth() {
	c.pauseHealth()
	c.health = nil
}

// probe runs the check beside the container's goroutine, and kills it whole at
// its timeout.
func (c *container) probe() {
	if c.health == nil || c.live == nil || c.probing != nil || c.state.Status != engine.Running {
		return
	}
	plan, l, rec := *c.health, c.live, c.rec
	ctx, cancel := context.WithTimeout(c.k.ctx, plan.Timeout)
	c.probing = cancel
	go func() {
		p := engine.Probe{Start: time.Now().UTC()}
		code, out, err := c.k.o.Runtime.Exec(ctx, rec, engine.Exec{Args: plan.Args}, keptOutput)
		p.End, p.ExitCode, p.Output = time.Now().UTC(), code, string(out)
		late := errors.Is(ctx.Err(), context.DeadlineExceeded)
		abandoned := !late && ctx.Err() != nil
		switch {
		case late:
			p.ExitCode = -1
			p.Output = fmt.Sprintf("Health check exceeded timeout (%s)", plan.Timeout) + tail(": ", p.Output)
		case err != nil:
			p.ExitCode, p.Output = -1, err.Error()
		}
		cancel()
		c.bring(func() {
			c.probing = nil
			switch {
			case c.live != l:
			case abandoned:
				if c.state.Status == engine.Running {
					c.scheduleProbe()
				}
			default:
				c.probed(plan, p)
			}
		})
	}()
}

func tail(separator, s string) string {
	if s = strings.TrimSpace(s); s == "" {
		return ""
	}
	return separator + s
}

// probed takes in the outcome of a probe.
func (c *container) probed(plan Plan, p engine.Probe) {
	if c.state.Health == nil {
		return
	}
	before := c.state.Health.Status
	h := plan.Judge(*c.state.Health, p, time.Since(c.live.since))
	c.state.Health = &h
	_ = c.save(false)
	c.scheduleProbe()
	if h.Status == before {
		return
	}
	c.event("health_status: "+h.Status, tail("", p.Output))
	if h.Status == unhealthy && c.rec.Spec.Restart.Unhealthy && !c.stopping {
		c.event("kill", "unhealthy", "signal", "15")
		c.stopping, c.ailing = true, true
		sig, err := c.stopSignal()
		if err != nil {
			c.killAll()
			return
		}
		grace := defaultGrace
		if t := c.rec.Spec.StopTimeout; t != nil {
			grace = time.Duration(*t)
		}
		c.terminate(sig, grace)
	}
}

// killedStatus is the exit status of what SIGKILL ended, as a shell tells it.
const killedStatus = 128 + int(unix.SIGKILL)

// hooks runs commands in the container, one after the other. What can't be run
// because that run of the container is over, or was killed with it
// (pid_namespaces(7)), is no mistake of a hook's: how it ended tells more.
func (c *container) hooks(ctx context.Context, l *live, kind string, execs []engine.Exec) error {
	for _, e := range execs {
		code, out, err := c.k.o.Runtime.Exec(ctx, c.rec, e, keptOutput)
		if (err != nil || code == killedStatus) && l.over() {
			return nil
		}
		if err == nil && code != 0 {
			err = fmt.Errorf("exit status %d%s", code, tail(": ", string(out)))
		}
		if err != nil {
			return fmt.Errorf("%s hook of container %s: %s: %w", kind, c.name(), strings.Join(e.Args, " "), err)
		}
	}
	return nil
}
