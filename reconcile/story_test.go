package reconcile

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/davit-run/davit/engine"
	"github.com/rogpeppe/go-internal/txtar"
)

var update = flag.Bool("update", false, "rewrite the plans of the stories")

// TestStories plans each story of testdata/plan, compares with its last
// section, and plans again from the result of applying: that must give no step
// but those of a section called again.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/plan/*.txtar")
	if err != nil || len(files) < 20 {
		t.Fatalf("stories: %d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { tell(t, file) })
	}
}

func tell(t *testing.T, file string) {
	a, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := readStory(t, a)
	steps := s.plan(s.actual)
	got := Text(steps)
	checkOrder(t, steps)
	again := Text(s.plan(simulate(s.actual, steps)))
	if *update {
		s.set(a, "plan", got)
		if again != "" {
			s.set(a, "again", again)
		}
		if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != s.sections["plan"] {
		t.Errorf("plan:\n%s\nwant:\n%s", got, s.sections["plan"])
	}
	if again != s.sections["again"] {
		t.Errorf("planning again after applying:\n%s\nwant:\n%s", again, s.sections["again"])
	}
}

// checkOrder holds that every step waits for earlier ones only.
func checkOrder(t *testing.T, steps []Step) {
	for i, s := range steps {
		if s.ID != i+1 {
			t.Errorf("step %d has number %d", i+1, s.ID)
		}
		for _, id := range s.After {
			if id < 1 || id >= s.ID {
				t.Errorf("step %d waits for %d", s.ID, id)
			}
		}
	}
}

type story struct {
	sections map[string]string
	verb     string
	desired  Desired
	actual   Actual
	options  Options
	signal   string
}

func (s story) set(a *txtar.Archive, name, text string) {
	for i := range a.Files {
		if a.Files[i].Name == name {
			a.Files[i].Data = []byte(text)
			return
		}
	}
	a.Files = append(a.Files, txtar.File{Name: name, Data: []byte(text)})
}

func (s story) plan(a Actual) []Step {
	switch s.verb {
	case "down":
		return Down(s.desired, a, s.options)
	case "stop":
		return Stop(s.desired, a, s.options)
	case "start":
		return Start(s.desired, a, s.options)
	case "restart":
		return Restart(s.desired, a, s.options)
	case "rm":
		return Remove(s.desired, a, s.options, s.signal == "stop")
	case "kill":
		return Kill(s.desired, a, s.options, s.signal)
	case "pause":
		return Pause(a, s.options.Services)
	case "unpause":
		return Unpause(a, s.options.Services)
	}
	return Plan(s.desired, a, s.options)
}

func readStory(t *testing.T, a *txtar.Archive) story {
	s := story{sections: map[string]string{}, verb: "up", desired: Desired{Project: "shop"}}
	s.actual = Actual{Networks: map[string]engine.Network{}, Volumes: map[string]engine.Volume{}, Images: map[string]string{}}
	for _, f := range a.Files {
		s.sections[f.Name] = string(f.Data)
	}
	for line := range strings.Lines(s.sections["do"]) {
		s.readVerb(t, strings.Fields(line))
	}
	for line := range strings.Lines(s.sections["desired"]) {
		s.readDesired(t, strings.Fields(line))
	}
	for line := range strings.Lines(s.sections["actual"]) {
		s.readActual(t, strings.Fields(line))
	}
	return s
}

func (s *story) readVerb(t *testing.T, words []string) {
	s.verb = words[0]
	o := &s.options
	for _, w := range words[1:] {
		key, value, _ := strings.Cut(w, "=")
		flags := map[string]*bool{
			"no-deps": &o.NoDeps, "no-start": &o.NoStart, "force-recreate": &o.ForceRecreate,
			"no-recreate": &o.NoRecreate, "always-recreate-deps": &o.RecreateDeps, "renew-anon-volumes": &o.RenewAnonymous,
			"remove-orphans": &o.RemoveOrphans, "build": &o.Build, "no-build": &o.NoBuild, "volumes": &o.Volumes,
			"images-ready": &o.ImagesReady,
		}
		switch {
		case flags[key] != nil:
			*flags[key] = true
		case key == "pull":
			o.Pull = value
		case key == "except":
			o.Except = value
		case key == "rmi":
			o.Images = value
		case key == "keep":
			o.KeepVolumes = append(o.KeepVolumes, value)
		case key == "stop" || strings.HasPrefix(key, "SIG"):
			s.signal = key
		case value == "":
			o.Services = append(o.Services, key)
		default:
			t.Fatalf("do: %s", w)
		}
	}
}

func (s *story) readDesired(t *testing.T, words []string) {
	name, rest := words[1], words[2:]
	switch words[0] {
	case "network":
		n := Network{Network: engine.Network{Name: name, Project: "shop", Internal: slices.Contains(rest, "internal")}}
		n.External = slices.Contains(rest, "external")
		s.desired.Networks = append(s.desired.Networks, n)
	case "volume":
		v := Volume{Volume: engine.Volume{Name: name, Project: "shop", Driver: value(rest, "driver")}}
		v.External = slices.Contains(rest, "external")
		s.desired.Volumes = append(s.desired.Volumes, v)
	case "image":
		i := Image{Ref: name, Service: value(rest, "service"), Build: slices.Contains(rest, "build"), PullPolicy: value(rest, "policy")}
		s.desired.Images = append(s.desired.Images, i)
	case "services":
		s.desired.Services = words[1:]
	case "empty":
		s.desired.Empty = words[1:]
	case "container":
		s.desired.Containers = append(s.desired.Containers, readContainer(t, name, rest))
	default:
		t.Fatalf("desired: %s", words)
	}
}

func value(words []string, key string) string {
	for _, w := range words {
		if v, ok := strings.CutPrefix(w, key+"="); ok {
			return v
		}
	}
	return ""
}

// readContainer reads `NAME word…`: k=v words of the definition, after=SERVICE
// with :CONDITION, :restart and :optional behind it, join=SERVICE, once.
func readContainer(t *testing.T, name string, words []string) Container {
	i := strings.LastIndexByte(name, '-')
	c := Container{Name: name, Service: name[:i]}
	c.Number, _ = strconv.Atoi(name[i+1:])
	for _, w := range words {
		key, v, _ := strings.Cut(w, "=")
		env, isEnv := strings.CutPrefix(key, "env.")
		switch {
		case isEnv:
			if c.Spec.Env == nil {
				c.Spec.Env = map[string]string{}
			}
			c.Spec.Env[env] = v
		case key == "image":
			c.Spec.Image = v
		case key == "cmd":
			c.Spec.Command = strings.Split(v, ",")
		case key == "port":
			n, _ := strconv.Atoi(v)
			c.Spec.Ports = append(c.Spec.Ports, engine.Port{HostPort: uint16(n), ContainerPort: 80, Protocol: "tcp"})
		case key == "net":
			c.Spec.Endpoints = append(c.Spec.Endpoints, engine.EndpointSpec{Network: v})
		case key == "vol":
			source, target, _ := strings.Cut(v, ":")
			c.Spec.Mounts = append(c.Spec.Mounts, engine.Mount{Type: engine.MountVolume, Source: source, Target: target})
		case key == "mode":
			c.Spec.NetworkMode = v
		case key == "join":
			c.Joins = append(c.Joins, v)
		case key == "after":
			c.After = append(c.After, readDependency(v))
		case key == "prestart":
			h := Container{Name: name + "-pre-start-1", Service: c.Service, Number: c.Number}
			h.Spec.Command = strings.Split(v, ",")
			h.Spec.Labels = map[string]string{LabelOneOff: "True", LabelHook: "1"}
			c.PreStart = append(c.PreStart, h)
		case key == "once":
			c.Once = true
		default:
			t.Fatalf("container %s: %s", name, w)
		}
	}
	return c
}

func readDependency(text string) Dependency {
	parts := strings.Split(text, ":")
	d := Dependency{Service: parts[0], Condition: Started}
	for _, p := range parts[1:] {
		switch p {
		case "healthy":
			d.Condition = Healthy
		case "completed":
			d.Condition = Completed
		case "restart":
			d.Restart = true
		case "optional":
			d.Optional = true
		}
	}
	return d
}

func (s *story) readActual(t *testing.T, words []string) {
	name, rest := words[1], words[2:]
	switch words[0] {
	case "network":
		project := "shop"
		if slices.Contains(rest, "foreign") {
			project = "other"
		}
		s.actual.Networks[name] = engine.Network{Name: name, Project: project, ID: "n1", Internal: slices.Contains(rest, "internal")}
	case "volume":
		s.actual.Volumes[name] = engine.Volume{Name: name, Project: "shop", Driver: "local"}
	case "image":
		s.actual.Images[name] = rest[0]
	case "other":
		s.actual.Others = map[string]string{name: rest[0]}
	case "container":
		s.actual.Containers = append(s.actual.Containers, readActualContainer(t, name, rest))
	default:
		t.Fatalf("actual: %s", words)
	}
}

// readActualContainer reads what readContainer reads, and the words of a
// state: a status, exit=N, health=WORD, imageid=ID, anon=TARGET, oneoff.
func readActualContainer(t *testing.T, name string, words []string) ActualContainer {
	var def []string
	a := ActualContainer{Container: engine.Container{ID: "id-" + name, Name: name, Project: "shop"}}
	oneoff := false
	for _, w := range words {
		key, v, _ := strings.Cut(w, "=")
		switch key {
		case "running", "exited", "created", "paused", "restarting", "dead":
			a.State.Status = engine.Status(key)
		case "exit":
			a.State.ExitCode, _ = strconv.Atoi(v)
		case "health":
			a.State.Health = &engine.Health{Status: v}
		case "imageid":
			a.ImageID = v
		case "anon":
			a.Volumes = map[string]string{v: "anon-" + name}
		case "oneoff":
			oneoff = true
		case "record": // one of two records of a name; the higher is the younger
			n, _ := strconv.Atoi(v)
			a.ID, a.Created = a.ID+"-"+v, time.Unix(int64(n), 0)
		default:
			def = append(def, w)
		}
	}
	if oneoff {
		name, _, _ = strings.Cut(name, "-run-")
		name += "-0"
	}
	c := readContainer(t, name, def)
	a.Spec = c.Spec
	a.Spec.Labels = labelled(c)
	if oneoff {
		a.Spec.Labels[LabelOneOff] = "True"
	}
	for _, m := range c.Spec.Mounts {
		if a.Volumes == nil {
			a.Volumes = map[string]string{}
		}
		a.Volumes[m.Target] = m.Source
	}
	return a
}
