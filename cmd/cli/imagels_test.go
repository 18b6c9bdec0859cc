package cli

import (
	"testing"

	"github.com/davit-run/davit/engine"
)

func TestImageFilters(t *testing.T) {
	img := engine.Image{Names: []string{"docker.io/library/redis:7"}, Config: engine.ImageConfig{Labels: map[string]string{"team": "blue"}}}
	for _, c := range []struct {
		filters []string
		want    bool
	}{
		{nil, true},
		{[]string{"reference=redis"}, true},
		{[]string{"reference=redis:7"}, true},
		{[]string{"reference=redis:8"}, false},
		{[]string{"reference=re*"}, true},
		{[]string{"reference=nginx", "reference=redis"}, true},
		{[]string{"label=team"}, true},
		{[]string{"label=team=blue", "label=other"}, false},
		{[]string{"dangling=true"}, false},
		{[]string{"dangling=false", "reference=redis"}, true},
	} {
		if got, err := imageMatches(img, "redis", "7", c.filters); err != nil || got != c.want {
			t.Errorf("%q: %v, %v", c.filters, got, err)
		}
	}
	for _, wrong := range []string{"reference", "size=3", "reference=[", "=x"} {
		if _, err := imageMatches(img, "redis", "7", []string{wrong}); err == nil {
			t.Errorf("%q is taken", wrong)
		}
	}
}
