package image

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"strings"
	"time"

	"github.com/davit-run/davit/engine"
)

// Import makes an image of one layer from the tar of a root file system,
// compressed or not. Each change is a Dockerfile instruction that sets some
// of the image's configuration: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK,
// LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME or WORKDIR. An empty name
// makes an image that only its id names.
func (s *Store) Import(ctx context.Context, r io.Reader, name string, changes []string) (engine.Image, error) {
	var none engine.Image
	c := configuration{
		Created: time.Now().UTC(), Architecture: runtime.GOARCH, OS: "linux",
		RootFS: rootFS{Type: "layers"},
	}
	if err := Change(&c.Config, changes); err != nil {
		return none, fmt.Errorf("import image: %w", err)
	}
	var names []string
	if name != "" {
		full, err := Normalise(name)
		if err != nil {
			return none, fmt.Errorf("import image: %w", err)
		}
		names = []string{full}
	}
	hold, err := s.layers.Hold(ctx)
	if err != nil {
		return none, fmt.Errorf("import image: %w", err)
	}
	defer hold.Release()
	st, err := stage(ctx, s.layers, r)
	if err != nil {
		return none, fmt.Errorf("import image %s: %w", name, err)
	}
	if err := s.layers.Publish(st); err != nil {
		return none, fmt.Errorf("import image %s: %w", name, err)
	}
	c.RootFS.DiffIDs = []string{"sha256:" + st.ID}
	c.History = []engine.History{{Created: c.Created, Comment: "Imported from -"}}
	img, err := s.putImported(c, st.Size, names)
	if err != nil {
		return none, fmt.Errorf("import image %s: %w", name, err)
	}
	return img, nil
}

func (s *Store) putImported(c configuration, size int64, names []string) (engine.Image, error) {
	config, err := json.Marshal(c)
	if err != nil {
		return engine.Image{}, err
	}
	img, err := Parse(config)
	if err != nil {
		return engine.Image{}, err
	}
	img.Size = size
	return s.Put(img, config, nil, names...)
}

// Change applies Dockerfile instructions to a configuration, as -c of import
// and commit does.
func Change(c *engine.ImageConfig, changes []string) error {
	for _, line := range changes {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		rest = strings.TrimSpace(rest)
		set, ok := instruction(strings.ToUpper(word))
		if !ok {
			return fmt.Errorf("change %q: %s cannot be changed; use CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME or WORKDIR", line, word)
		}
		if rest == "" {
			return fmt.Errorf("change %q: it sets nothing", line)
		}
		if err := set(c, rest); err != nil {
			return fmt.Errorf("change %q: %w", line, err)
		}
	}
	return nil
}

type setter func(c *engine.ImageConfig, rest string) error

func instruction(word string) (setter, bool) {
	switch word {
	case "CMD":
		return func(c *engine.ImageConfig, s string) error { c.Cmd = command(s); return nil }, true
	case "ENTRYPOINT":
		return func(c *engine.ImageConfig, s string) error { c.Entrypoint = command(s); return nil }, true
	case "SHELL":
		return func(c *engine.ImageConfig, s string) error { c.Shell = command(s); return nil }, true
	case "USER":
		return func(c *engine.ImageConfig, s string) error { c.User = s; return nil }, true
	case "WORKDIR":
		return func(c *engine.ImageConfig, s string) error { c.WorkingDir = s; return nil }, true
	case "STOPSIGNAL":
		return func(c *engine.ImageConfig, s string) error { c.StopSignal = s; return nil }, true
	case "ONBUILD":
		return func(c *engine.ImageConfig, s string) error { c.OnBuild = append(c.OnBuild, s); return nil }, true
	case "ENV":
		return setEnv, true
	case "LABEL":
		return setLabels, true
	case "EXPOSE":
		return setPorts, true
	case "VOLUME":
		return setVolumes, true
	case "HEALTHCHECK":
		return setHealth, true
	}
	return nil, false
}

// command reads the JSON form, or wraps the shell form.
func command(s string) []string {
	var list []string
	if strings.HasPrefix(s, "[") && json.Unmarshal([]byte(s), &list) == nil {
		return list
	}
	return []string{"/bin/sh", "-c", s}
}

func setEnv(c *engine.ImageConfig, s string) error {
	pairs, err := pairs(s)
	if err != nil {
		return err
	}
	for _, kv := range pairs {
		replaced := false
		for i, old := range c.Env {
			if k, _, _ := strings.Cut(old, "="); k == kv[0] {
				c.Env[i], replaced = kv[0]+"="+kv[1], true
			}
		}
		if !replaced {
			c.Env = append(c.Env, kv[0]+"="+kv[1])
		}
	}
	return nil
}

func setLabels(c *engine.ImageConfig, s string) error {
	pairs, err := pairs(s)
	if err != nil {
		return err
	}
	if c.Labels == nil {
		c.Labels = map[string]string{}
	}
	for _, kv := range pairs {
		c.Labels[kv[0]] = kv[1]
	}
	return nil
}

func setPorts(c *engine.ImageConfig, s string) error {
	if c.ExposedPorts == nil {
		c.ExposedPorts = map[string]struct{}{}
	}
	for _, p := range strings.Fields(s) {
		port, proto, ok := strings.Cut(p, "/")
		if !ok {
			proto = "tcp"
		}
		if strings.Trim(port, "0123456789-") != "" || port == "" {
			return fmt.Errorf("%q is not a port", p)
		}
		c.ExposedPorts[port+"/"+strings.ToLower(proto)] = struct{}{}
	}
	return nil
}

func setVolumes(c *engine.ImageConfig, s string) error {
	if c.Volumes == nil {
		c.Volumes = map[string]struct{}{}
	}
	list := strings.Fields(s)
	if strings.HasPrefix(s, "[") {
		if err := json.Unmarshal([]byte(s), &list); err != nil {
			return err
		}
	}
	for _, v := range list {
		c.Volumes[v] = struct{}{}
	}
	return nil
}

// setHealth reads [--interval=…] [--timeout=…] [--start-period=…]
// [--start-interval=…] [--retries=…] CMD command, or NONE.
func setHealth(c *engine.ImageConfig, s string) error {
	h := &engine.ImageHealth{}
	for strings.HasPrefix(s, "--") {
		flag, rest, _ := strings.Cut(s, " ")
		if err := healthFlag(h, flag); err != nil {
			return err
		}
		s = strings.TrimSpace(rest)
	}
	word, rest, _ := strings.Cut(s, " ")
	rest = strings.TrimSpace(rest)
	switch {
	case strings.EqualFold(word, "NONE"):
		h.Test = []string{"NONE"}
	case !strings.EqualFold(word, "CMD") || rest == "":
		return fmt.Errorf("%q is neither CMD with a command nor NONE", s)
	case strings.HasPrefix(rest, "["):
		var list []string
		if err := json.Unmarshal([]byte(rest), &list); err != nil {
			return err
		}
		h.Test = append([]string{"CMD"}, list...)
	default:
		h.Test = []string{"CMD-SHELL", rest}
	}
	c.Healthcheck = h
	return nil
}

func healthFlag(h *engine.ImageHealth, flag string) error {
	name, value, _ := strings.Cut(flag, "=")
	if name == "--retries" {
		_, err := fmt.Sscanf(value, "%d", &h.Retries)
		return err
	}
	d, err := time.ParseDuration(value)
	if err != nil {
		return err
	}
	switch name {
	case "--interval":
		h.Interval = d
	case "--timeout":
		h.Timeout = d
	case "--start-period":
		h.StartPeriod = d
	case "--start-interval":
		h.StartInterval = d
	default:
		return fmt.Errorf("unknown flag %s", name)
	}
	return nil
}

// pairs reads K=V K2="V 2" …, or the old form K V.
func pairs(s string) ([][2]string, error) {
	if k, v, ok := strings.Cut(s, " "); ok && !strings.Contains(k, "=") {
		return [][2]string{{k, strings.TrimSpace(v)}}, nil
	}
	list, err := words(s)
	if err != nil {
		return nil, err
	}
	var all [][2]string
	for _, w := range list {
		k, v, ok := strings.Cut(w, "=")
		if !ok || k == "" {
			return nil, fmt.Errorf("%q is not NAME=value", w)
		}
		all = append(all, [2]string{k, v})
	}
	return all, nil
}

// words splits at spaces that are neither quoted nor escaped.
func words(s string) ([]string, error) {
	var all []string
	var word strings.Builder
	var quote byte
	open := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && quote != '\'' && i+1 < len(s):
			i++
			word.WriteByte(s[i])
			open = true
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote, open = c, true
		case quote == 0 && (c == ' ' || c == '\t'):
			if open {
				all = append(all, word.String())
				word.Reset()
				open = false
			}
		default:
			word.WriteByte(c)
			open = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("a %c is not closed", quote)
	}
	if open {
		all = append(all, word.String())
	}
	return all, nil
}
