package compose

import "io"

// Options say which files make a project and how far they are resolved. The
// zero value is what `up` without flags wants: the files found from the
// working directory upwards, everything interpolated, resolved and checked.
type Options struct {
	Files       []string // -f, in order; "-" is standard input; none: COMPOSE_FILE, then discovery
	ProjectDir  string   // --project-directory
	ProjectName string   // -p
	EnvFiles    []string // --env-file; none: COMPOSE_ENV_FILES, then .env
	Profiles    []string // --profile; none: COMPOSE_PROFILES

	// Services are those named on the command line: their profiles become
	// active, and what neither they nor their dependencies use is left out.
	// None means all.
	Services []string
	NoDeps   bool // of Services, leave their dependencies out

	WorkingDir string    // where relative names start; empty: the process's
	Environ    []string  // KEY=value; nil: the process's
	Stdin      io.Reader // for "-"; nil: the process's

	// Fetch brings remote compose files here; nil: they are refused.
	Fetch Fetch

	// Rename makes another name of what the project calls itself; nil: that is
	// its name.
	Rename func(Naming) string

	AllResources   bool // keep networks, volumes, secrets and configs that nobody uses
	Compatibility  bool
	NoInterpolate  bool
	NoNormalize    bool
	NoResolvePaths bool
	NoConsistency  bool
	NoEnvFiles     bool // leave env_file unread
}

// A Naming is what a project's name is made from.
type Naming struct {
	Name    string // its own
	Dir     string // the project's directory
	Given   bool   // by Options.ProjectName
	Isolate bool   // the files say x-isolate: true
}
