package local

import (
	"context"
	"sync"

	"github.com/davit-run/davit/engine/keeper/wire"
	"github.com/davit-run/davit/engine/store"
)

// keepers remembers the clients of the keepers that were reached, so that a
// plan of many steps looks for each keeper once.
type keepers struct {
	mu      sync.Mutex
	clients map[string]*wire.Client
}

func (k *keepers) ensure(ctx context.Context, layout store.Layout, project string) (*wire.Client, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if c := k.clients[project]; c != nil {
		return c, nil
	}
	c, err := wire.Ensure(ctx, layout, project)
	if err != nil {
		return nil, err
	}
	if k.clients == nil {
		k.clients = make(map[string]*wire.Client)
	}
	k.clients[project] = c
	return c, nil
}

func (k *keepers) close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.clients {
		c.Close()
	}
	k.clients = nil
	return nil
}
