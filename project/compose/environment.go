package compose

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/compose-spec/compose-go/v2/dotenv"

	"github.com/davit-run/davit/project"
)

// environment is what ${…} is replaced from: the caller's variables, then
// those of .env files.
func environment(environ []string, wd string) map[string]string {
	env := make(map[string]string, len(environ)+1)
	for _, kv := range environ {
		if k, v, ok := strings.Cut(kv, "="); ok && k != "" {
			env[k] = v
		}
	}
	env["PWD"] = wd
	if home := SudoHome(env); home != "" {
		env["HOME"] = home
	}
	return env
}

// SudoHome is the home directory of the person who called sudo: what HOME and
// ~ mean for davit then. It is empty when sudo was not used.
func SudoHome(env map[string]string) string {
	uid := env["SUDO_UID"]
	if uid == "" || uid == "0" || os.Geteuid() != 0 {
		return ""
	}
	u, err := user.LookupId(uid)
	if err != nil {
		return ""
	}
	return u.HomeDir
}

// dotEnv reads the .env files for dir into env, under what it has already, and
// returns which files it read. Named files must exist.
func dotEnv(env map[string]string, named []string, dir, wd string) ([]string, error) {
	files := named
	if len(files) == 0 {
		if off, err := parseBool(env["COMPOSE_DISABLE_ENV_FILE"]); err != nil {
			return nil, fmt.Errorf("COMPOSE_DISABLE_ENV_FILE: %w", err)
		} else if off {
			return nil, nil
		}
		file := filepath.Join(dir, ".env")
		if info, err := os.Stat(file); err != nil || info.IsDir() {
			return nil, nil //nolint:nilerr // the default file is a convenience, not a demand
		}
		files = []string{file}
	}
	abs := make([]string, len(files))
	for i, f := range files {
		abs[i] = absolute(wd, f)
		if _, err := os.Stat(abs[i]); err != nil {
			return nil, &project.Error{What: "couldn't find env file: " + shown(wd, abs[i]), Fix: "correct the name after --env-file, or make the file"}
		}
	}
	vars, err := dotenv.GetEnvFromFile(env, abs)
	if err != nil {
		return nil, envError(wd, err)
	}
	for k, v := range vars {
		if _, set := env[k]; !set {
			env[k] = v
		}
	}
	return abs, nil
}

func parseBool(s string) (bool, error) {
	if s == "" {
		return false, nil
	}
	return strconv.ParseBool(s)
}

func absolute(wd, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(wd, path)
}
