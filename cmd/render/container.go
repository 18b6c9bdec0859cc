package render

import (
	"fmt"
	"net"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"

	"github.com/davit-run/davit/engine"
)

// The labels that rows show.
const (
	labelProject = "com.docker.compose.project"
	labelService = "com.docker.compose.service"
)

// ContainerColumns are the columns of ps.
var ContainerColumns = []Column{
	{"NAME", "Name"}, {"IMAGE", "Image"}, {"COMMAND", "Command"}, {"SERVICE", "Service"},
	{"CREATED", "RunningFor"}, {"STATUS", "Status"}, {"PORTS", "Ports"},
}

// ContainerHeads are the headers of what else a template for ps may name.
var ContainerHeads = map[string]string{
	"ID": "CONTAINER ID", "Names": "NAMES", "CreatedAt": "CREATED AT", "LocalVolumes": "LOCAL VOLUMES",
	"ExitCode": "EXIT CODE", "Publishers": "PUBLISHERS",
}

// A Publisher is one published or exposed port in ps --format json.
type Publisher struct {
	URL           string
	TargetPort    int
	PublishedPort int
	Protocol      string
}

// Container is one container as a row of ps; full leaves ids and commands
// whole. now is the time that ages count from.
func Container(s engine.Snapshot, full bool, now time.Time) map[string]any {
	id, command := s.ID, strconv.Quote(Command(s.Container))
	if !full {
		id, command = id[:min(12, len(id))], strconv.Quote(shorten(Command(s.Container), 20))
	}
	health := ""
	if s.State.Health != nil && s.State.Status == engine.Running {
		health = s.State.Health.Status
	}
	return map[string]any{
		"Command": command, "CreatedAt": s.Created.Local().Format("2006-01-02 15:04:05 -0700 MST"),
		"Engine": "davit", "ExitCode": s.State.ExitCode, "Health": health, "ID": id, "Image": s.Spec.Image,
		"Labels": Labels(s.Spec.Labels), "LocalVolumes": strconv.Itoa(len(s.Volumes)), "Mounts": mounts(s.Container, full),
		"Name": s.Name, "Names": s.Name, "Networks": networks(s.Container), "Ports": Ports(s),
		"Project": s.Spec.Labels[labelProject], "Publishers": Publishers(s),
		"RunningFor": units.HumanDuration(max(0, now.Sub(s.Created))) + " ago", "Service": s.Spec.Labels[labelService],
		"Size": "0B", "State": string(s.State.Status), "Status": Status(s.State, now),
	}
}

// Command is what a container runs, as one line.
func Command(c engine.Container) string {
	words := commandWords(c)
	for i, w := range words {
		if i > 0 && strings.Contains(w, " ") {
			words[i] = "'" + w + "'" // as Docker's daemon lists it
		}
	}
	return strings.Join(words, " ")
}

// commandWords are the words of what a container runs.
func commandWords(c engine.Container) []string {
	entry, args := c.ImageConfig.Entrypoint, c.ImageConfig.Cmd
	if len(c.Spec.Entrypoint) > 0 || c.Spec.NoEntry {
		entry, args = c.Spec.Entrypoint, nil
	}
	if c.Spec.Command != nil || c.Spec.NoCommand {
		args = c.Spec.Command
	}
	return slices.Concat(entry, args)
}

func shorten(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

// Labels are labels in one line, sorted.
func Labels(labels map[string]string) string {
	var out []string
	for k, v := range labels {
		out = append(out, k+"="+v)
	}
	sort.Strings(out)
	return strings.Join(out, ",")
}

func mounts(c engine.Container, full bool) string {
	var out []string
	for _, m := range c.Spec.Mounts {
		name := m.Source
		if m.Type == engine.MountVolume {
			name = c.Volumes[m.Target]
		}
		if !full {
			name = shorten(name, 15)
		}
		if m.Type == engine.MountVolume || m.Type == engine.MountBind {
			out = append(out, name)
		}
	}
	return strings.Join(out, ",")
}

func networks(c engine.Container) string {
	if c.Spec.NetworkMode != "" {
		return c.Spec.NetworkMode
	}
	var out []string
	for _, e := range c.Spec.Endpoints {
		out = append(out, e.Network)
	}
	return strings.Join(out, ",")
}

// Status is a state in docker's words, such as "Up 5 minutes (healthy)".
func Status(s engine.State, now time.Time) string {
	age := func(t time.Time) string { return units.HumanDuration(max(0, now.Sub(t))) }
	switch s.Status {
	case engine.Running, engine.Paused:
		up := "Up " + age(s.StartedAt) + crashLoop(s, now)
		switch {
		case s.Status == engine.Paused:
			return up + " (Paused)"
		case s.Health == nil || s.Health.Status == "":
			return up
		case s.Health.Status == "starting":
			return up + " (health: starting)"
		}
		return up + " (" + s.Health.Status + ")"
	case engine.Restarting:
		return fmt.Sprintf("Restarting (%d) %s ago", s.ExitCode, age(s.FinishedAt)) + crashLoop(s, now)
	case engine.Exited:
		return fmt.Sprintf("Exited (%d) %s ago", s.ExitCode, age(s.FinishedAt))
	case engine.Created:
		return "Created"
	case engine.Removing:
		return "Removal In Progress"
	case engine.Dead:
		return "Dead"
	}
	return string(s.Status)
}

// looping is from how many restarts on, and until how long after the last one,
// a container counts as crashing again and again.
const (
	looping = 3
	settled = time.Minute
)

// crashLoop tells of a container that its policy starts again and again.
func crashLoop(s engine.State, now time.Time) string {
	if s.Restarts < looping || s.Status != engine.Restarting && now.Sub(s.StartedAt) > settled {
		return ""
	}
	return fmt.Sprintf(" (crash loop: %d restarts)", s.Restarts)
}

// Publishers are a container's ports as ps --format json lists them: published
// ones of a living container, and those that are only exposed.
func Publishers(s engine.Snapshot) []Publisher {
	var out []Publisher
	for _, b := range s.State.Ports {
		host := b.HostIP
		if host == "" {
			host = "0.0.0.0"
		}
		out = append(out, Publisher{host, int(b.ContainerPort), int(b.HostPort), b.Protocol})
	}
	alive := s.State.Status == engine.Running || s.State.Status == engine.Paused
	if !alive {
		return []Publisher{}
	}
	for _, p := range exposed(s.Container) {
		if !slices.ContainsFunc(out, func(o Publisher) bool { return o.TargetPort == p.TargetPort && o.Protocol == p.Protocol }) {
			out = append(out, p)
		}
	}
	slices.SortStableFunc(out, func(a, b Publisher) int { return a.TargetPort - b.TargetPort })
	if out == nil {
		return []Publisher{}
	}
	return out
}

func exposed(c engine.Container) []Publisher {
	all := slices.Clone(c.Spec.Expose)
	for port := range c.ImageConfig.ExposedPorts {
		all = append(all, port)
	}
	sort.Strings(all)
	var out []Publisher
	for _, e := range slices.Compact(all) {
		port, proto, ok := strings.Cut(e, "/")
		if !ok {
			proto = "tcp"
		}
		if n, err := strconv.Atoi(port); err == nil {
			out = append(out, Publisher{"", n, 0, proto})
		}
	}
	return out
}

// Ports are a container's ports in one line; neighbours are told as a range.
func Ports(s engine.Snapshot) string {
	type span struct{ first, last Publisher }
	var spans []span
	all := Publishers(s)
	sort.SliceStable(all, func(i, j int) bool {
		a, b := all[i], all[j]
		if a.URL != b.URL {
			return a.URL > b.URL
		}
		if a.Protocol != b.Protocol {
			return a.Protocol < b.Protocol
		}
		return a.TargetPort < b.TargetPort
	})
	for _, p := range all {
		if n := len(spans) - 1; n >= 0 && follows(spans[n].last, p) {
			spans[n].last = p
			continue
		}
		spans = append(spans, span{p, p})
	}
	var out []string
	for _, s := range spans {
		out = append(out, portText(s.first, s.last))
	}
	return strings.Join(out, ", ")
}

func follows(a, b Publisher) bool {
	if a.URL != b.URL || a.Protocol != b.Protocol || b.TargetPort != a.TargetPort+1 {
		return false
	}
	return a.PublishedPort == 0 && b.PublishedPort == 0 || a.PublishedPort != 0 && b.PublishedPort == a.PublishedPort+1
}

func portText(first, last Publisher) string {
	target := between(first.TargetPort, last.TargetPort) + "/" + first.Protocol
	if first.PublishedPort == 0 {
		return target
	}
	host := between(first.PublishedPort, last.PublishedPort)
	return net.JoinHostPort(first.URL, host) + "->" + target
}

func between(a, b int) string {
	if a == b {
		return strconv.Itoa(a)
	}
	return strconv.Itoa(a) + "-" + strconv.Itoa(b)
}
