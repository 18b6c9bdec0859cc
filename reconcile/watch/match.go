package watch

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/moby/patternmatcher"
)

// always are left out whatever the rules say: what editors and version control
// put beside the files that somebody works on.
var always = []string{
	"**/.git", "**/.hg", "**/.svn", "**/.DS_Store", "**/*~", "**/.#*", "**/#*#", "**/.*.sw?", "**/.*.swpx",
	"**/.goutputstream-*", "**/___jb_tmp___", "**/___jb_old___",
}

// A matcher says which files of a rule's directory count. It is the engine that
// builds use for .dockerignore, so that both mean the same.
type matcher struct {
	own     *patternmatcher.PatternMatcher
	context *patternmatcher.PatternMatcher // on paths from the build's context
	prefix  string                         // from the context to the rule's directory
	include *patternmatcher.PatternMatcher
	memo    map[string]bool // what was found: patterns cost more than looking at the file
}

// maxMemo is how many answers are remembered.
const maxMemo = 100_000

func newMatcher(r Rule) (*matcher, error) {
	var err error
	m := &matcher{memo: map[string]bool{}}
	if m.own, err = patternmatcher.New(append(append([]string{}, always...), r.Ignore...)); err != nil {
		return nil, fmt.Errorf("ignore of service %s: %w", r.Service, err)
	}
	if len(r.Include) > 0 {
		if m.include, err = patternmatcher.New(r.Include); err != nil {
			return nil, fmt.Errorf("include of service %s: %w", r.Service, err)
		}
	}
	rel, err := filepath.Rel(r.Context, r.Path)
	if r.Context == "" || err != nil || rel == ".." || strings.HasPrefix(rel, "../") || len(r.Dockerignore) == 0 {
		return m, nil
	}
	m.prefix = rel
	if m.context, err = patternmatcher.New(r.Dockerignore); err != nil {
		return nil, fmt.Errorf(".dockerignore of service %s: %w", r.Service, err)
	}
	return m, nil
}

// skips says whether what is at rel, a path below the rule's, does not count.
func (m *matcher) skips(rel string) bool {
	if rel == "." {
		return false
	}
	skip, known := m.memo[rel]
	if !known {
		if len(m.memo) >= maxMemo {
			clear(m.memo)
		}
		skip = m.matches(rel)
		m.memo[rel] = skip
	}
	return skip
}

func (m *matcher) matches(rel string) bool {
	if hit, err := m.own.MatchesOrParentMatches(rel); err == nil && hit {
		return true
	}
	if m.context != nil {
		if hit, err := m.context.MatchesOrParentMatches(filepath.Join(m.prefix, rel)); err == nil && hit {
			return true
		}
	}
	if m.include == nil {
		return false
	}
	hit, err := m.include.MatchesOrParentMatches(rel)
	return err == nil && !hit
}

// prunes says whether nothing below a directory that is skipped can count.
func (m *matcher) prunes(rel string) bool {
	if rel == "." {
		return false
	}
	if hit, err := m.own.MatchesOrParentMatches(rel); err == nil && hit {
		return !m.own.Exclusions()
	}
	if m.context == nil {
		return false
	}
	hit, err := m.context.MatchesOrParentMatches(filepath.Join(m.prefix, rel))
	return err == nil && hit && !m.context.Exclusions()
}
