package compose

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"github.com/compose-spec/compose-go/v2/loader"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/sirupsen/logrus"

	"github.com/davit-run/davit/project"
)

// maxFile is the size in bytes above which a compose file is refused.
const maxFile = 8 << 20

// Load reads, merges, interpolates and checks the compose files that o names.
// Mistakes come as project.Errors, all at once and each with its line; what
// davit goes on in spite of comes as warnings.
func Load(ctx context.Context, o Options) (*project.Project, []project.Warning, error) {
	l, err := load(ctx, o)
	if err != nil {
		return nil, l.warnings(), err
	}
	p, err := convert(l.model)
	if err != nil {
		return nil, l.warnings(), err
	}
	p.ComposeFiles = l.at.files
	p.EnvFiles = l.at.envFiles
	p.Compatibility = o.Compatibility
	p.Locate = l.tree.index.Locate
	p.Quote = l.tree.index.Quote
	return p, l.warnings(), nil
}

// A loaded is one project on its way from files to model.
type loaded struct {
	o       Options
	remotes *remotes
	at      *origin
	files   []types.ConfigFile
	tree    *tree
	model   *types.Project
	envs    map[string][]string // the files that a service has variables from
	warns   []project.Warning
}

func (l *loaded) warnings() []project.Warning {
	var out []project.Warning
	if l.at != nil {
		out = append(out, l.at.warnings...)
	}
	if l.tree != nil {
		out = append(out, l.tree.warns...)
	}
	return append(out, l.warns...)
}

// prepare does all that comes before the library: which files, what they say
// on their own.
func (l *loaded) prepare(ctx context.Context) error {
	var err error
	l.remotes = newRemotes(ctx, l.o.Fetch)
	if l.at, err = find(l.o, l.remotes); err != nil {
		return err
	}
	if err := l.read(); err != nil {
		return err
	}
	if l.tree, err = l.plant(); err != nil || len(l.remotes.got) == 0 {
		return err
	}
	return l.confine(ctx)
}

// large is the size in bytes from which a project's files are worth memory:
// half of the time of a large one goes to collecting what the library leaves.
const large = 100 << 10

func load(ctx context.Context, o Options) (*loaded, error) {
	l := &loaded{o: o}
	if err := l.prepare(ctx); err != nil {
		return l, l.together(ctx, err)
	}
	if l.size() > large {
		defer debug.SetGCPercent(debug.SetGCPercent(400))
	}
	model, err := quietly(l, func() (*types.Project, error) {
		return l.build(ctx)
	})
	if err != nil {
		return l, l.together(ctx, l.explain(err))
	}
	if !l.o.NoConsistency {
		if errs := check(model, &l.tree.index); len(errs) > 0 {
			if len(l.o.Services) == 0 {
				errs = append(errs, l.envFiles(model)...)
			}
			return l, errs
		}
	}
	if l.model, err = l.choose(model); err != nil {
		return l, err
	}
	l.unheeded()
	return l, nil
}

func (l *loaded) size() int {
	total := 0
	for _, f := range l.files {
		total += len(f.Content)
	}
	return total
}

// read takes the content of every file named, standard input included.
func (l *loaded) read() error {
	for _, name := range l.at.files {
		content, err := readFile(name, l.o.Stdin)
		var mistake *project.Error
		if errors.As(err, &mistake) {
			mistake.File = shown(l.at.wd, name)
		}
		if err != nil {
			return err
		}
		l.files = append(l.files, types.ConfigFile{Filename: name, Content: content})
	}
	return nil
}

func readFile(name string, stdin io.Reader) ([]byte, error) {
	r := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, &project.Error{File: name, What: "cannot be read: " + errors.Unwrap(err).Error(), Fix: "correct the name, or make the file"}
		}
		defer f.Close()
		if info, err := f.Stat(); err == nil && info.IsDir() {
			return nil, &project.Error{File: name, What: "is a directory", Fix: "name the compose file in it"}
		}
		r = f
	} else if r == nil {
		r = os.Stdin
	}
	content, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(content) > maxFile {
		return nil, &project.Error{File: name, What: fmt.Sprintf("is larger than %d MiB, the most a compose file may have", maxFile>>20)}
	}
	return content, nil
}

func (l *loaded) details() types.ConfigDetails {
	return types.ConfigDetails{WorkingDir: l.at.dir, ConfigFiles: l.files, Environment: l.at.env}
}

// options set the library to do all but what davit does better: its schema
// check costs 13 ms and tells no line, its consistency check is exponential.
func (l *loaded) options(o *loader.Options) {
	o.SkipConsistencyCheck = true
	o.SkipValidation = true
	o.SkipInterpolation = l.o.NoInterpolate
	o.SkipNormalization = l.o.NoNormalize
	o.ResolvePaths = !l.o.NoResolvePaths
	o.SkipResolveEnvironment = true
	o.SkipResolveLabels = true
	o.Profiles = l.at.profiles
	o.MaxNodeVisits = maxNodes
	if !l.tree.casts() {
		o.Interpolate.TypeCastMapping = nil
	}
	o.ResourceLoaders = []loader.ResourceLoader{l.remotes}
	if convert, err := parseBool(l.at.env["COMPOSE_CONVERT_WINDOWS_PATHS"]); err == nil {
		o.ConvertWindowsPaths = convert && o.ResolvePaths
	}
	o.SetProjectName(l.tree.project, true)
}

// choose narrows the model down to the services asked for and reads the files
// that those name.
func (l *loaded) choose(p *types.Project) (*types.Project, error) {
	var err error
	if len(l.o.Services) > 0 {
		if err := l.known(p); err != nil {
			return nil, err
		}
		if p, err = p.WithServicesEnabled(l.o.Services...); err != nil {
			return nil, err
		}
		if p, err = p.WithSelectedServices(l.o.Services, l.dependencies()); err != nil {
			return nil, err
		}
	}
	if !l.o.AllResources {
		p = p.WithoutUnnecessaryResources()
	}
	if errs := l.envFiles(p); len(errs) > 0 {
		return nil, errs
	}
	return l.resolveFiles(p)
}

// resolveFiles reads env_file and label_file. The library copies the whole
// model for each, so that it is asked only where there is something to do.
func (l *loaded) resolveFiles(p *types.Project) (*types.Project, error) {
	var variables, labels bool
	l.envs = map[string][]string{}
	for name, s := range p.Services {
		for _, f := range s.EnvFiles {
			l.envs[name] = append(l.envs[name], f.Path)
		}
		variables = variables || len(s.EnvFiles) > 0 || len(s.PreStart) > 0
		labels = labels || len(s.LabelFiles) > 0 || len(s.PreStart) > 0
		for _, v := range s.Environment {
			variables = variables || v == nil
		}
	}
	registerRaw()
	sortKeys(p)
	var err error
	if variables && !l.o.NoEnvFiles {
		if p, err = p.WithServicesEnvironmentResolved(true); err != nil {
			return nil, l.explain(err)
		}
	}
	if labels {
		if p, err = p.WithServicesLabelsResolved(false); err != nil {
			return nil, l.explain(err)
		}
	}
	return p, nil
}

// sortKeys puts build.ssh in order: the library reads it through a map.
func sortKeys(p *types.Project) {
	for _, s := range p.Services {
		if s.Build != nil {
			slices.SortFunc(s.Build.SSH, func(a, b types.SSHKey) int { return strings.Compare(a.ID, b.ID) })
		}
	}
}

// known sees to it that the services asked for are there.
func (l *loaded) known(p *types.Project) error {
	all := p.AllServices()
	for _, name := range l.o.Services {
		if _, ok := all[name]; !ok {
			return &project.Error{What: "no such service: " + name, Fix: near(name, all)}
		}
	}
	return nil
}

func (l *loaded) dependencies() types.DependencyOption {
	if l.o.NoDeps {
		return types.IgnoreDependencies
	}
	return types.IncludeDependencies
}

const maxNodes = 1_000_000

// logLock keeps two loads from taking each other's log lines.
var logLock sync.Mutex

// quietly runs the library with its log turned into warnings, and a panic of
// its into an error.
func quietly[T any](l *loaded, do func() (T, error)) (out T, err error) {
	logLock.Lock()
	defer logLock.Unlock()
	defer l.home()()
	log := logrus.StandardLogger()
	was, hooks := log.Out, log.ReplaceHooks(logrus.LevelHooks{})
	log.SetOutput(io.Discard)
	log.AddHook((*logHook)(l))
	defer func() {
		log.SetOutput(was)
		log.ReplaceHooks(hooks)
		if r := recover(); r != nil {
			err = fmt.Errorf("read %s: the loader stopped: %v", strings.Join(l.at.files, ", "), r)
		}
	}()
	return do()
}

// home makes ~ mean for the library, which asks the process, what it means for
// the project: the caller's home, under sudo too.
func (l *loaded) home() (restore func()) {
	home, was := l.at.env["HOME"], os.Getenv("HOME")
	if home == "" || home == was {
		return func() {}
	}
	_ = os.Setenv("HOME", home)
	return func() { _ = os.Setenv("HOME", was) }
}

// A logHook collects what the library logs.
type logHook loaded

// Levels are those that a user should hear of.
func (*logHook) Levels() []logrus.Level { return []logrus.Level{logrus.WarnLevel, logrus.ErrorLevel} }

// Fire takes one message. Those of variables that are not set have been told
// already, with their line.
func (h *logHook) Fire(e *logrus.Entry) error {
	if strings.Contains(e.Message, "variable is not set") {
		return nil
	}
	h.warns = append(h.warns, project.Warning{Text: e.Message})
	return nil
}
