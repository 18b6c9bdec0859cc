package cli

import (
	"context"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/davit-run/davit/cmd/render"
	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/local"
	"github.com/davit-run/davit/engine/store"
	"github.com/davit-run/davit/project"
	"github.com/davit-run/davit/project/compose"
	"github.com/davit-run/davit/reconcile"
	"github.com/davit-run/davit/reconcile/apply"
	"github.com/davit-run/davit/reconcile/desired"
)

// A session is one command at work on one project of one host.
type session struct {
	*globals
	engine                *local.Engine
	host                  *host
	name                  string           // of the project
	project               *project.Project // nil when there is no file at hand
	desired               reconcile.Desired
	actual                reconcile.Actual
	unlock                func()
	warned                sync.Map
	quietPull, quietBuild bool // images come without progress
	makes                 bool // containers may be made: the key of secrets is needed
}

// open reaches the host, without a project yet.
func (g *globals) open() (*session, error) {
	layout, err := store.Locate(g.root)
	if err != nil {
		return nil, err
	}
	if err := local.CheckRoot(); err != nil {
		return nil, err
	}
	e := local.Open(layout)
	s := &session{globals: g, engine: e, unlock: func() {}}
	s.host = &host{Engine: e, session: s}
	e.OnWarning(s.warn)
	return s, nil
}

// warn tells a person, once for all replicas of a service, what the engine has
// to say about one.
func (s *session) warn(container, what string) {
	if _, told := s.warned.LoadOrStore(strings.TrimRight(container, "0123456789")+what, true); !told {
		s.say("davit: warning: %s: %s", container, what)
	}
}

func (s *session) close() {
	s.unlock()
	_ = s.engine.Close()
}

// composeOptions say how the project is found; services are those named on the
// command line.
func (g *globals) composeOptions(services []string) compose.Options {
	return compose.Options{
		Files: g.files, ProjectDir: g.dir, ProjectName: g.name, EnvFiles: g.envFiles, Profiles: g.profiles,
		Services: services, AllResources: g.allResources, Compatibility: g.compatibility, Stdin: g.in, Fetch: g.fetch,
		Rename: g.rename,
	}
}

// need loads the project, which must be there, and what it asks for.
func (g *globals) need(ctx context.Context, services []string, scale map[string]int) (*session, error) {
	s, err := g.open()
	if err != nil {
		return nil, err
	}
	s.makes = !g.dryRun
	if err := s.load(ctx, services, scale); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *session) load(ctx context.Context, services []string, scale map[string]int) error {
	p, warnings, err := compose.Load(ctx, s.composeOptions(services))
	for _, w := range warnings {
		render.Warning(s.err, w)
	}
	if err != nil {
		return err
	}
	s.project, s.name = p, p.Name
	if err := s.isolate(ctx); err != nil {
		return err
	}
	for name := range scale {
		if _, err := p.Service(name); err != nil {
			return err
		}
	}
	if s.makes && len(p.Secrets)+len(p.Configs) > 0 {
		if err := keepKey(s.engine.Layout()); err != nil {
			return err
		}
	}
	key, err := secretKey(s.engine.Layout())
	if err != nil {
		return err
	}
	s.desired, err = desired.From(p, desired.Options{Scale: scale, Version: Version, Key: key})
	if err != nil {
		return err
	}
	s.complete(scale)
	return nil
}

// complete tells the plan of services that have no container wanted.
func (s *session) complete(scale map[string]int) {
	if s.desired.Services == nil {
		for name := range s.project.AllServices() {
			s.desired.Services = append(s.desired.Services, name)
		}
		slices.Sort(s.desired.Services)
	}
	if s.desired.Empty != nil {
		return
	}
	for _, name := range s.project.ServiceNames() {
		if !slices.ContainsFunc(s.desired.Containers, func(c reconcile.Container) bool { return c.Service == name }) {
			s.desired.Empty = append(s.desired.Empty, name)
		}
	}
}

// find knows the project by its file where one is at hand, and by its name
// alone when -p or COMPOSE_PROJECT_NAME gives one.
func (g *globals) find(ctx context.Context, services []string) (*session, error) {
	s, err := g.open()
	if err != nil {
		return nil, err
	}
	if err := s.locate(ctx, services); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// take is find, keeps other commands from changing the project, and looks at
// the host.
func (g *globals) take(ctx context.Context, services []string) (*session, error) {
	s, err := g.find(ctx, services)
	if err != nil {
		return nil, err
	}
	if err = s.lock(ctx); err == nil {
		err = s.observe(ctx)
	}
	if err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *session) locate(ctx context.Context, services []string) error {
	if s.globals.name != "" && len(s.files) == 0 {
		s.name = s.globals.name
		s.desired.Project = s.name
		return checkName(s.name)
	}
	err := s.load(ctx, nil, nil)
	var mistake *project.Error
	if name := os.Getenv("COMPOSE_PROJECT_NAME"); err != nil && name != "" && errors.As(err, &mistake) && mistake.File == "" {
		s.name = name
		s.desired.Project = name
		return nil
	}
	if err != nil {
		return err
	}
	return s.known(services)
}

// known refuses services that the files do not have.
func (s *session) known(services []string) error {
	all := s.project.AllServices()
	for _, name := range services {
		if all[name] == nil {
			_, err := s.project.Service(name)
			return err
		}
	}
	return nil
}

// lock keeps other commands from changing the project. A dry run changes
// nothing, so it waits for nobody.
func (s *session) lock(ctx context.Context) error {
	if s.dryRun {
		return nil
	}
	unlock, err := s.engine.LockProject(ctx, s.name)
	if err != nil {
		return err
	}
	s.unlock = unlock
	return nil
}

// release lets other commands change the project.
func (s *session) release() {
	s.unlock()
	s.unlock = func() {}
}

// locked does something as the only command that changes the project, and knows
// how it is.
func (s *session) locked(ctx context.Context, do func() error) error {
	if err := s.lock(ctx); err != nil {
		return err
	}
	defer s.release()
	if err := s.observe(ctx); err != nil {
		return err
	}
	return do()
}

// observe looks at what the host has for the project.
func (s *session) observe(ctx context.Context) error {
	all, err := s.engine.Containers(ctx, s.name)
	if err != nil {
		return err
	}
	a := reconcile.Actual{}
	for _, c := range all {
		a.Containers = append(a.Containers, reconcile.ActualContainer{Container: c.Container, State: c.State})
	}
	if a.Networks, err = s.networks(ctx); err != nil {
		return err
	}
	if a.Volumes, err = s.volumes(ctx); err != nil {
		return err
	}
	if a.Images, err = s.engine.Images(ctx, s.references()); err != nil {
		return err
	}
	a.Pulled = s.engine.Asked(s.aging())
	a.Others = s.others(ctx)
	s.actual = a
	return nil
}

// others are the ids of the containers that definitions join by name.
func (s *session) others(ctx context.Context) map[string]string {
	found := map[string]string{}
	for _, c := range s.desired.Containers {
		for _, mode := range []string{c.Spec.NetworkMode, c.Spec.Security.IPC, c.Spec.Security.PID} {
			name, ok := strings.CutPrefix(mode, "container:")
			if !ok || found[name] != "" {
				continue
			}
			if id, err := s.engine.Find(ctx, name); err == nil {
				found[name] = id
			}
		}
	}
	return found
}

func (s *session) networks(ctx context.Context) (map[string]engine.Network, error) {
	found, err := s.engine.ProjectNetworks(ctx, s.name)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, n := range s.desired.Networks {
		names = append(names, n.Name)
	}
	return withNamed(ctx, found, names, s.engine.Networks)
}

func (s *session) volumes(ctx context.Context) (map[string]engine.Volume, error) {
	found, err := s.engine.ProjectVolumes(ctx, s.name)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, v := range s.desired.Volumes {
		names = append(names, v.Name)
	}
	return withNamed(ctx, found, names, s.engine.Volumes)
}

// withNamed adds to what was found those of the names that are not among it.
func withNamed[T any](ctx context.Context, found map[string]T, names []string, find func(context.Context, []string) (map[string]T, error)) (map[string]T, error) {
	missing := slices.DeleteFunc(names, func(name string) bool { _, ok := found[name]; return ok })
	more, err := find(ctx, missing)
	maps.Copy(found, more)
	return found, err
}

func (s *session) references() []string {
	var refs []string
	for _, i := range s.desired.Images {
		refs = append(refs, i.Ref)
	}
	return refs
}

// aging are the images that are looked for again after a while.
func (s *session) aging() []string {
	var refs []string
	for _, i := range s.desired.Images {
		if reconcile.Refreshes(i.PullPolicy) {
			refs = append(refs, i.Ref)
		}
	}
	return refs
}

// containers are the project's own, of the named services; one-offs only when
// asked for.
func (s *session) containers(services []string, oneOffs bool) []reconcile.ActualContainer {
	var out []reconcile.ActualContainer
	for _, c := range s.actual.Containers {
		if (oneOffs || !c.OneOff()) && (len(services) == 0 || slices.Contains(services, c.Service())) {
			out = append(out, c)
		}
	}
	return out
}

// apply runs a plan and shows its progress under a verb, or prints it when
// that is all that is asked for.
func (s *session) apply(ctx context.Context, verb string, steps []reconcile.Step) error {
	if s.dryRun {
		return render.Plan(s.out, steps)
	}
	if len(steps) == 0 {
		return nil
	}
	show, err := render.NewProgress(s.progress, verb, s.status, s.colour(s.status))
	if err != nil {
		return err
	}
	defer show.Close()
	s.host.show = show
	defer func() { s.host.show = nil }()
	return s.run(ctx, steps, show.Report)
}

// run runs a plan and tells report of it.
func (s *session) run(ctx context.Context, steps []reconcile.Step, report func(apply.Event)) error {
	gone := map[string]bool{} // two may have one name: the one that stays counts
	for _, step := range steps {
		if do, ok := step.Do.(reconcile.RemoveContainer); ok {
			gone[do.ID] = true
		}
	}
	ids := make(map[string]string, len(s.actual.Containers))
	for _, c := range s.actual.Containers {
		if ids[c.Name] == "" || !gone[c.ID] {
			ids[c.Name] = c.ID
		}
	}
	return apply.Steps(ctx, s.host, steps, apply.Options{Project: s.name, Parallel: s.parallel, IDs: ids, Report: s.quietly(report)})
}

// quietly leaves out what --quiet-pull and --quiet-build ask not to see;
// failures are shown all the same.
func (s *session) quietly(report func(apply.Event)) func(apply.Event) {
	return func(e apply.Event) {
		pulls, builds := strings.HasPrefix(e.Word, "Pull"), strings.HasPrefix(e.Word, "Buil")
		if e.Kind == "Image" && e.Err == nil && (s.quietPull && pulls || s.quietBuild && builds) {
			return
		}
		report(e)
	}
}

// seconds is a --timeout flag as the engine takes it; nil when it was not set.
func seconds(n int, set bool) *engine.Duration {
	if !set {
		return nil
	}
	d := engine.Duration(time.Duration(n) * time.Second)
	return &d
}
