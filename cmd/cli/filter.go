package cli

import (
	"fmt"
	"strings"
)

// passes says whether something passes docker's filters: values of one key are
// alternatives, keys add up, and labels all have to be there. Judge holds it
// against one filter.
func passes(filters []string, judge func(key, value string) (bool, error)) (bool, error) {
	verdict := map[string]bool{}
	for _, f := range filters {
		key, value, ok := strings.Cut(f, "=")
		if !ok {
			return false, fmt.Errorf("filter %q: write it as key=value", f)
		}
		hit, err := judge(key, value)
		if err != nil {
			return false, fmt.Errorf("filter %q: %w", f, err)
		}
		if key == "label" || key == "label!" {
			key = f
		}
		verdict[key] = verdict[key] || hit
	}
	for _, hit := range verdict {
		if !hit {
			return false, nil
		}
	}
	return true, nil
}

// labelMatches holds labels against KEY or KEY=VALUE.
func labelMatches(labels map[string]string, want string) bool {
	key, value, exact := strings.Cut(want, "=")
	have, ok := labels[key]
	return ok && (!exact || have == value)
}

// saysYes reads the value of a filter such as dangling.
func saysYes(value string) bool { return value == "true" || value == "1" }
