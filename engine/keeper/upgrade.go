package keeper

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/davit-run/davit/engine/keeper/wire"
)

// trial is how long a program may take to say its version.
const trial = 20 * time.Second

// replace hands the project over to another build: the anchor becomes it in
// place, with every descriptor it keeps, and starts its keeper. No container
// notices. A program that cannot even say its version is refused before
// anything was done.
func (k *Keeper) replace(conn *net.UnixConn, files []*os.File) error {
	if len(files) != 1 {
		return refuse("refused", "an upgrade comes with one program")
	}
	said, err := version(k.ctx, files[0])
	if err != nil {
		return refuse("refused", "the program to hand over to does not run: %w", err)
	}
	k.standDown()
	if err := k.pauseStarts(); err != nil {
		return err
	}
	if err := k.o.Keep.Replace(files[0]); err != nil {
		return err
	}
	k.log("build %s hands over to build %s", k.o.Build, said)
	err = wire.Send(conn, wire.Reply{Done: true, Build: said, PID: os.Getpid()})
	k.handOver.Do(func() { close(k.replaced) })
	return err
}

// version runs a program behind a descriptor for what it calls itself.
func version(ctx context.Context, program *os.File) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, trial)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/fd/3", "version")
	cmd.ExtraFiles = []*os.File{program}
	cmd.Env = []string{}
	cmd.WaitDelay = trial
	out, err := cmd.Output()
	if said := strings.TrimSpace(string(out)); err == nil && said != "" {
		return said, nil
	}
	if err == nil {
		err = fmt.Errorf("it does not tell its version")
	}
	return "", err
}

// pauseStarts lets starts under way finish and keeps others from beginning,
// for whoever asked will ask the next keeper.
func (k *Keeper) pauseStarts() error {
	over := time.After(time.Minute)
	for n := range cap(k.starts) {
		select {
		case k.starts <- struct{}{}:
			continue
		case <-over:
		case <-k.ctx.Done():
		}
		for range n {
			<-k.starts
		}
		return refuse("conflict", "containers of project %s are being started; try again", k.o.Project)
	}
	return nil
}

// repair does by hand what a keeper does when it begins and while it watches:
// it destroys what no record refers to and makes stand what records ask for.
func (k *Keeper) repair(ctx context.Context, conn *net.UnixConn) error {
	host, err := k.network()
	if err == nil {
		err = host.Recover(ctx)
	}
	return k.done(conn, err)
}
