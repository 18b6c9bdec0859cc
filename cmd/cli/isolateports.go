package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/local"
	"github.com/davit-run/davit/engine/store"
)

// Moved ports come from below those that the kernel gives to clients.
const (
	firstMoved = 20000
	movedPorts = 12000
)

// isolate sets a copy apart: its names, and host ports where others have them.
// Only a command that brings the copy up chooses ports; the others go by what
// was chosen.
func (s *session) isolate(ctx context.Context) error {
	if s.copy == nil {
		return nil
	}
	s.project.Isolate()
	layout := s.engine.Layout()
	if s.placing && !s.dryRun {
		lock, err := store.Acquire(ctx, layout.Lock("isolated"))
		if err != nil {
			return err
		}
		defer lock.Release()
	}
	var rec isolation
	if err := store.Read(layout.Isolated(s.name), &rec); err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	s.copy.Ports, s.copy.Subnets = rec.Ports, rec.Subnets
	if err := s.moveSubnets(ctx); err != nil {
		return err
	}
	if err := s.movePorts(ctx); err != nil || !s.placing || s.dryRun {
		return err
	}
	s.placing = false // once for a command
	if err := os.MkdirAll(filepath.Dir(layout.Isolated(s.name)), 0o700); err != nil {
		return err
	}
	if err := store.Write(layout.Isolated(s.name), s.copy); err != nil {
		return err
	}
	return s.writeEnv()
}

// movePorts puts the copy's host ports in the place of those that the files ask
// for.
func (s *session) movePorts(ctx context.Context) error {
	find := func(placed) uint16 { return 0 }
	if s.placing {
		c, err := s.chooser(ctx)
		if err != nil {
			return err
		}
		find = c.choose
	}
	var all []placed
	for _, name := range s.project.ServiceNames() {
		ports := s.project.Services[name].Ports
		for i := range ports {
			wanted, err := strconv.ParseUint(ports[i].Published, 10, 16)
			if err != nil || wanted == 0 {
				continue // a range, or any free one: the engine finds one
			}
			p := placed{Service: name, HostIP: ports[i].HostIP, Protocol: cmp.Or(ports[i].Protocol, "tcp"), Target: ports[i].Target, Wanted: uint16(wanted)}
			if k := slices.IndexFunc(s.copy.Ports, p.sameUse); k >= 0 {
				p.Port = s.copy.Ports[k].Port
			}
			p.Port = cmp.Or(find(p), p.Port, p.Wanted)
			ports[i].Published = strconv.Itoa(int(p.Port))
			all = append(all, p)
		}
	}
	for _, p := range s.copy.Ports { // those of services that are not brought up now
		if s.project.Services[p.Service] == nil && s.project.DisabledServices[p.Service] != nil {
			all = append(all, p)
		}
	}
	s.copy.Ports = all
	return nil
}

// A chooser finds host ports that neither a process has nor another copy.
type chooser struct {
	s       *session
	ours    map[string]bool // ids of the copy's own containers
	claimed map[string]bool // by protocol and port
}

func (s *session) chooser(ctx context.Context) (*chooser, error) {
	c := &chooser{s: s, ours: map[string]bool{}, claimed: map[string]bool{}}
	own, err := s.engine.Containers(ctx, s.name)
	if err != nil {
		return nil, err
	}
	for _, o := range own {
		c.ours[o.ID] = true
	}
	others, err := s.copies()
	for _, rec := range others {
		for _, p := range rec.Ports {
			c.claimed[claim(p.Protocol, p.Port)] = true
		}
	}
	return c, err
}

// copies are the records of the other copies that are there.
func (s *session) copies() ([]isolation, error) {
	layout := s.engine.Layout()
	files, err := store.Names(filepath.Dir(layout.Isolated(s.name)))
	if err != nil {
		return nil, err
	}
	var out []isolation
	for _, f := range files {
		var rec isolation
		path := filepath.Join(filepath.Dir(layout.Isolated(s.name)), f)
		if err := store.Read(path, &rec); err == nil && rec.Name != s.name && present(layout, rec.Name) {
			out = append(out, rec)
		}
	}
	return out, nil
}

func claim(protocol string, port uint16) string { return fmt.Sprint(protocol, port) }

// present says whether another copy is there, or just being brought up: what a
// copy claimed that came to nothing is anybody's.
func present(layout store.Layout, name string) bool {
	if _, err := os.Lstat(layout.Project(name)); err == nil {
		return true
	}
	st, err := os.Lstat(layout.Isolated(name))
	return err == nil && time.Since(st.ModTime()) < time.Minute
}

// choose returns the port that an entry had before, or asks for, when that is
// free, else the first free one of a place in the range that is always the same
// for the entry.
func (c *chooser) choose(p placed) uint16 {
	first := cmp.Or(p.Port, p.Wanted)
	h := fnv.New32a()
	fmt.Fprint(h, c.s.name, p.Service, p.HostIP, p.Protocol, p.Target, p.Wanted)
	at := h.Sum32() % movedPorts
	for i := range uint32(movedPorts) {
		port := first
		if i > 0 {
			port = uint16(firstMoved + (at+i)%movedPorts)
		}
		key := claim(p.Protocol, port)
		if c.claimed[key] || c.s.engine.PortFree(engine.Port{HostIP: p.HostIP, HostPort: port, Protocol: p.Protocol}, c.ours) != nil {
			continue
		}
		c.claimed[key] = true
		return port
	}
	return first // and the plan says who has it
}

// envFile is where scripts and people find what the copy is called and where its
// ports are.
func (i *isolation) envFile() string { return filepath.Join(i.Dir, ".davit", "isolated.env") }

// writeEnv writes the copy's env file, which git does not see, and tells of
// ports that are not where the files have them.
func (s *session) writeEnv() error {
	var b strings.Builder
	fmt.Fprintf(&b, "COMPOSE_PROJECT_NAME=%s\n", s.name)
	for _, p := range s.copy.Ports {
		fmt.Fprintf(&b, "%s=%d\n", p.variable(), p.Port)
		if p.Port != p.Wanted {
			s.say("davit: %s: host port %d is taken, it is published at %d", p.Service, p.Wanted, p.Port)
		}
	}
	for _, p := range s.copy.Subnets {
		if p.Subnet != p.Wanted {
			s.say("davit: network %s: its subnet %s is taken, the copy has %s, and fixed addresses in the same places of that", p.Network, p.Wanted, p.Subnet)
		}
	}
	path := s.copy.envFile()
	if err := local.WriteForCaller(filepath.Join(filepath.Dir(path), ".gitignore"), []byte("*\n")); err != nil {
		return err
	}
	if err := local.WriteForCaller(path, []byte(b.String())); err != nil {
		return err
	}
	s.say("davit: a copy of its own, %s (%s)", s.name, path)
	return nil
}

// variable is what a port is called in the env file: WEB_PORT_8080.
func (p placed) variable() string {
	upper := func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}
	word := "_PORT_"
	if p.Protocol != "tcp" {
		word = "_" + strings.ToUpper(p.Protocol) + word
	}
	return strings.Map(upper, p.Service) + word + strconv.Itoa(int(p.Target))
}
