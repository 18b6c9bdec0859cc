package cli

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/davit-run/davit/engine/build"
	"github.com/davit-run/davit/project"
)

// hostPlatform is this machine's own.
func hostPlatform() string { return "linux/" + runtime.GOARCH }

// buildPlatform is the platform of a service's image: the service's own, else
// this machine's, else the first that is listed; empty when none is.
func buildPlatform(svc *project.Service) string {
	all := svc.Build.Platforms
	switch own := hostPlatform(); {
	case svc.Platform != "" || len(all) == 0:
		return svc.Platform
	case slices.Contains(all, own):
		return own
	}
	return all[0]
}

// buildOthers builds a service for the other platforms that it lists. An image
// here holds one platform, so theirs have names of their own.
func (h *host) buildOthers(ctx context.Context, svc *project.Service, r build.Request, names []string) error {
	own := r.Platform
	for _, p := range svc.Build.Platforms {
		if p == own {
			continue
		}
		r.Platform = p
		var theirs []string
		for _, n := range names {
			theirs = append(theirs, platformName(n, p))
		}
		if err := h.buildShared(ctx, r, theirs); err != nil {
			return fmt.Errorf("platform %s: %w", p, err)
		}
		h.buildWarning(svc, "platforms", p+" is the image "+theirs[0]+": an image here holds one platform")
	}
	return nil
}

// platformName is what the image of another platform is called: app:1 of
// linux/arm64 is app:1-linux-arm64.
func platformName(name, platform string) string {
	if !strings.Contains(name[strings.LastIndex(name, "/")+1:], ":") {
		name += ":latest"
	}
	return name + "-" + strings.ReplaceAll(platform, "/", "-")
}
