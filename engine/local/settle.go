package local

import (
	"sync"

	"github.com/davit-run/davit/engine/build"
	"github.com/davit-run/davit/engine/keeper/wire"
)

// A settling brings built layers to the disk while the command goes on. A
// layer that has not reached it is not believed after another boot, and its
// image would have to be built again.
type settling struct {
	mu     sync.Mutex
	busy   int  // builds whose layers are on their way
	failed bool // they may not have arrived
	left   bool // to another process, as this one ends
}

// toDisk begins it for what has been built by now.
func (e *Engine) toDisk() {
	e.settling.mu.Lock()
	e.settling.busy++
	e.settling.mu.Unlock()
	go func() {
		layers := e.images.Layers()
		arrived, err := layers.Flush()
		e.settling.mu.Lock()
		defer e.settling.mu.Unlock()
		if e.settling.left {
			return // the process may end at any moment: no record is begun
		}
		if err == nil {
			err = layers.RecordSettled(arrived)
		}
		e.settling.busy--
		e.settling.failed = e.settling.failed || err != nil
	}()
}

// settleLater leaves what is still on its way to a process of its own, so that
// a command does not wait for the disk.
func (e *Engine) settleLater() error {
	e.settling.mu.Lock()
	defer e.settling.mu.Unlock()
	e.settling.left = true
	if e.settling.busy == 0 && !e.settling.failed {
		return nil
	}
	program, err := wire.FindRuntime()
	if err != nil {
		return err
	}
	return build.Runner{Program: program, Layout: e.layout}.Settle()
}
