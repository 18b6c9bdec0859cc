package apply

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/reconcile"
)

// A fake is a host in memory: it remembers what was asked in which order, and
// fails where it is told to.
type fake struct {
	mu      sync.Mutex
	calls   []string
	fail    map[string]error
	states  map[string]engine.State // by id
	now     int
	most    int
	slow    time.Duration
	changed chan struct{}
}

func newFake() *fake {
	return &fake{fail: map[string]error{}, states: map[string]engine.State{}, changed: make(chan struct{}, 100)}
}

func (f *fake) do(ctx context.Context, call string) error {
	f.mu.Lock()
	f.calls = append(f.calls, call)
	f.now++
	f.most = max(f.most, f.now)
	err := f.fail[call]
	f.mu.Unlock()
	if f.slow > 0 {
		select {
		case <-time.After(f.slow):
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now--
	return err
}

func (f *fake) set(id string, s engine.State) {
	f.mu.Lock()
	f.states[id] = s
	f.mu.Unlock()
	f.changed <- struct{}{}
}

func (f *fake) CreateNetwork(ctx context.Context, n engine.Network) error {
	return f.do(ctx, "create network "+n.Name)
}
func (f *fake) RemoveNetwork(ctx context.Context, _, name string) error {
	return f.do(ctx, "remove network "+name)
}
func (f *fake) CreateVolume(ctx context.Context, v engine.Volume) error {
	return f.do(ctx, "create volume "+v.Name)
}
func (f *fake) RemoveVolume(ctx context.Context, name string) error {
	return f.do(ctx, "remove volume "+name)
}
func (f *fake) PullImage(ctx context.Context, do reconcile.PullImage) error {
	return f.do(ctx, "pull "+do.Ref)
}
func (f *fake) BuildImage(ctx context.Context, do reconcile.BuildImage) error {
	return f.do(ctx, "build "+do.Ref)
}
func (f *fake) RemoveImage(ctx context.Context, ref string) error {
	return f.do(ctx, "remove image "+ref)
}
func (f *fake) CreateContainer(ctx context.Context, _ string, do reconcile.CreateContainer) (string, error) {
	return "id-" + do.Name, f.do(ctx, "create "+do.Name)
}
func (f *fake) UpdateContainer(ctx context.Context, _, id string, _ engine.Spec) error {
	return f.do(ctx, "update "+id)
}
func (f *fake) StartContainer(ctx context.Context, _, id string) error { return f.do(ctx, "start "+id) }
func (f *fake) StopContainer(ctx context.Context, _, id string, _ engine.Stop) error {
	return f.do(ctx, "stop "+id)
}
func (f *fake) KillContainer(ctx context.Context, _, id, s string) error {
	return f.do(ctx, "kill "+s+" "+id)
}
func (f *fake) PauseContainer(ctx context.Context, _, id string) error { return f.do(ctx, "pause "+id) }
func (f *fake) UnpauseContainer(ctx context.Context, _, id string) error {
	return f.do(ctx, "unpause "+id)
}
func (f *fake) RemoveContainer(ctx context.Context, _, id string, _ bool) error {
	return f.do(ctx, "remove "+id)
}

func (f *fake) State(_ context.Context, _, id string) (engine.State, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.states[id]
	if !ok {
		return s, fmt.Errorf("no state of %s", id)
	}
	return s, nil
}

func (f *fake) Watch(ctx context.Context, _ string, ready func(), each func(engine.Event) error) error {
	ready()
	for {
		select {
		case <-f.changed:
			if err := each(engine.Event{}); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

var errBoom = errors.New("boom")
