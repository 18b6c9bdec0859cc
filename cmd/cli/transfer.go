package cli

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"

	"github.com/davit-run/davit/cmd/render"
	"github.com/davit-run/davit/engine/local"
	"github.com/davit-run/davit/engine/registry"
)

// transferOptions are what pull and push of services have in common.
type transferOptions struct{ ignoreFailures, includeDeps, quiet bool }

// flags binds them; deps and quiet are the helps of those two flags.
func (o *transferOptions) flags(c *cobra.Command, verb, deps, quiet string) {
	f := c.Flags()
	f.BoolVar(&o.ignoreFailures, "ignore-"+verb+"-failures", false,
		fmt.Sprintf("%s what it can and ignores images with %s failures", map[string]string{"pull": "Pull", "push": "Push"}[verb], verb))
	f.BoolVar(&o.includeDeps, "include-deps", false, deps)
	f.BoolVarP(&o.quiet, "quiet", "q", false, quiet)
}

// needQuiet is need for commands about images, which may be told to show no
// progress.
func (g *globals) needQuiet(ctx context.Context, services []string, quiet bool) (*session, error) {
	s, err := g.need(ctx, services, nil)
	if err == nil && quiet {
		s.progress = render.Quiet
	}
	return s, err
}

// carry runs the pull or push of one image and shows how it comes along.
func (s *session) carry(show render.Progress, verb, ref string, do func(local.RegistryOptions) error) error {
	words := map[string][2]string{"pull": {"Pulling", "Pulled"}, "push": {"Pushing", "Pushed"}}[verb]
	tell := func(word string, done bool, err error) {
		e := event(ref, word, done, err)
		e.Kind = "Image"
		show.Report(e)
	}
	tell(words[0], false, nil)
	o := local.RegistryOptions{Insecure: s.insecure}
	if d, ok := show.(render.Detailer); ok {
		o.Progress = newTransfer(func(text string) { d.Detail("Image", ref, text) }).report
	}
	if err := do(o); err != nil {
		tell("Error", true, err)
		return err
	}
	tell(words[1], true, nil)
	return nil
}

// A transfer adds up what the layers of one image tell.
type transfer struct {
	mu     sync.Mutex
	tell   func(string)
	layers map[string]registry.Progress
	begun  time.Time
	told   time.Time
}

func newTransfer(tell func(string)) *transfer {
	return &transfer{tell: tell, layers: map[string]registry.Progress{}, begun: time.Now()}
}

// report takes one layer's progress in. It is called from several goroutines.
func (t *transfer) report(p registry.Progress) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.layers[p.Layer] = p
	now := time.Now()
	if now.Sub(t.told) < 100*time.Millisecond {
		return
	}
	t.told = now
	t.tell(t.text(now))
}

// text is how much has come of how much, and how fast.
func (t *transfer) text(now time.Time) string {
	var done, total, moved int64
	for _, p := range t.layers {
		total += p.Total
		switch p.Status {
		case "Already exists", "Layer already exists", "Mounted":
			done += p.Total
		case "Pull complete", "Pushed":
			done, moved = done+p.Total, moved+p.Total
		default:
			done, moved = done+p.Done, moved+p.Done
		}
	}
	rate := float64(moved) / max(now.Sub(t.begun).Seconds(), 0.1)
	return fmt.Sprintf("%s / %s, %s/s", units.HumanSize(float64(done)), units.HumanSize(float64(total)), units.HumanSize(rate))
}
