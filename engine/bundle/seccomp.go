package bundle

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"

	profiles "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/seccomp"
	"github.com/opencontainers/runc/libcontainer/specconv"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// seccomp installs moby's profile, narrowed to the container's capabilities.
// A build of davit-runtime that cannot filter refuses to start a container
// rather than to start it without.
func (b *builder) seccomp() error {
	s := b.c.Spec.Security
	if b.opts.seccomp == "unconfined" || s.Privileged && b.opts.seccomp == "" {
		return nil
	}
	if !seccomp.Enabled {
		return fmt.Errorf("this davit-runtime was built without seccomp; it starts no container")
	}
	var err error
	if b.opts.seccomp == "" || b.opts.seccomp == "builtin" {
		b.out.Config.Seccomp, err = Seccomp(b.caps, !s.NoCompat32)
	} else {
		b.out.Config.Seccomp, err = customSeccomp(b.opts.seccomp, b.caps)
	}
	if err != nil {
		return fmt.Errorf("seccomp profile: %w", err)
	}
	return nil
}

var seccompCache sync.Map // key of Seccomp -> *configs.Seccomp

// Seccomp returns moby's default profile for a process with the given bounding
// set, for the native architecture and, with compat32, the 32-bit one that the
// kernel runs beside it. Every architecture costs a compilation at each start,
// so x32 and its like are left out: their calls end the process. The result is
// shared; do not change it.
func Seccomp(caps []string, compat32 bool) (*configs.Seccomp, error) {
	key := fmt.Sprint(compat32, strings.Join(caps, " "))
	if p, ok := seccompCache.Load(key); ok {
		return p.(*configs.Seccomp), nil
	}
	spec, err := profiles.GetDefaultProfile(capSpec(caps))
	if err != nil {
		return nil, err
	}
	spec.Architectures = archs(compat32)
	p, err := specconv.SetupSeccomp(spec)
	if err != nil {
		return nil, err
	}
	seccompCache.Store(key, p)
	return p, nil
}

func customSeccomp(text string, caps []string) (*configs.Seccomp, error) {
	spec, err := profiles.LoadProfile(text, capSpec(caps))
	if err != nil {
		return nil, err
	}
	return specconv.SetupSeccomp(spec)
}

func capSpec(caps []string) *specs.Spec {
	return &specs.Spec{Process: &specs.Process{
		Capabilities: &specs.LinuxCapabilities{Bounding: slices.Clone(caps)},
	}}
}

func archs(compat32 bool) []specs.Arch {
	native, small := specs.Arch(""), specs.Arch("")
	switch runtime.GOARCH {
	case "amd64":
		native, small = specs.ArchX86_64, specs.ArchX86
	case "arm64":
		native, small = specs.ArchAARCH64, specs.ArchARM
	case "riscv64":
		native = specs.ArchRISCV64
	case "s390x":
		native, small = specs.ArchS390X, specs.ArchS390
	case "ppc64le":
		native = specs.ArchPPC64LE
	case "loong64":
		native = specs.ArchLOONGARCH64
	}
	var out []specs.Arch
	if native != "" {
		out = append(out, native)
	}
	if small != "" && compat32 {
		out = append(out, small)
	}
	return out
}
