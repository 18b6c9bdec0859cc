package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/mattn/go-shellwords"
	"github.com/spf13/cobra"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/local"
	"github.com/davit-run/davit/logs/journal"
	"github.com/davit-run/davit/reconcile"
)

// standaloneNetwork is the one of containers that name no other.
const standaloneNetwork = "davit_default"

type containerRunOptions struct {
	runOptions
	network, restart, memory, hostname, stopSignal, detachKeys, shmSize, healthCmd        string
	init, privileged, readOnly, interactive, tty, noHealth                                bool
	tmpfs, hosts, dns, security, sysctls, ulimits, networkAlias, devices, groups, envFile []string
	cpus                                                                                  float64
	pids                                                                                  int64
	stopTimeout, healthRetries                                                            int
	healthInterval, healthTimeout, healthStart                                            time.Duration
}

// newContainerRun is run, or create, which does not start what it makes.
func newContainerRun(g *globals, start bool) *cobra.Command {
	var o containerRunOptions
	c := &cobra.Command{Use: "run [OPTIONS] IMAGE [COMMAND] [ARG...]", Short: "Create and run a new container from an image", Args: cobra.MinimumNArgs(1)}
	if !start {
		c.Use, c.Short = "create [OPTIONS] IMAGE [COMMAND] [ARG...]", "Create a new container"
	}
	c.RunE = func(c *cobra.Command, args []string) error {
		o.entrypointSet = c.Flags().Changed("entrypoint")
		o.runOptions.envFiles = o.envFile
		return runContainerRun(c.Context(), g, o, c.Flags().Changed("stop-timeout"), start, args)
	}
	f := c.Flags()
	f.SetInterspersed(false)
	if start {
		f.BoolVarP(&o.detach, "detach", "d", false, "Run container in background and print container ID")
		f.StringVar(&o.detachKeys, "detach-keys", "", "Override the key sequence for detaching a container")
	}
	f.BoolVarP(&o.interactive, "interactive", "i", false, "Keep STDIN open even if not attached")
	f.BoolVarP(&o.tty, "tty", "t", false, "Allocate a pseudo-TTY")
	f.BoolVar(&o.rm, "rm", false, "Automatically remove the container and its anonymous volumes when it exits")
	f.StringVar(&o.name, "name", "", "Assign a name to the container")
	f.StringArrayVarP(&o.env, "env", "e", nil, "Set environment variables")
	f.StringArrayVar(&o.envFile, "env-file", nil, "Read in a file of environment variables")
	f.StringArrayVarP(&o.labels, "label", "l", nil, "Set meta data on a container")
	f.StringArrayVarP(&o.publish, "publish", "p", nil, "Publish a container's port(s) to the host")
	f.StringArrayVarP(&o.volumes, "volume", "v", nil, "Bind mount a volume")
	f.StringArrayVar(&o.tmpfs, "tmpfs", nil, "Mount a tmpfs directory")
	f.StringVarP(&o.user, "user", "u", "", "Username or UID (format: <name|uid>[:<group|gid>])")
	f.StringVarP(&o.workdir, "workdir", "w", "", "Working directory inside the container")
	f.StringVar(&o.entrypoint, "entrypoint", "", "Overwrite the default ENTRYPOINT of the image")
	f.StringSliceVar(&o.capAdd, "cap-add", nil, "Add Linux capabilities")
	f.StringSliceVar(&o.capDrop, "cap-drop", nil, "Drop Linux capabilities")
	f.StringVar(&o.network, "network", "", "Connect a container to a network: its name, none, host or container:NAME")
	f.StringArrayVar(&o.networkAlias, "network-alias", nil, "Add network-scoped alias for the container")
	f.StringVarP(&o.hostname, "hostname", "h", "", "Container host name")
	f.StringArrayVar(&o.hosts, "add-host", nil, "Add a custom host-to-IP mapping (host:ip)")
	f.StringArrayVar(&o.dns, "dns", nil, "Set custom DNS servers")
	f.StringVar(&o.restart, "restart", "no", "Restart policy to apply when a container exits")
	f.BoolVar(&o.init, "init", false, "Run an init inside the container that forwards signals and reaps processes")
	f.BoolVar(&o.privileged, "privileged", false, "Give extended privileges to this container")
	f.BoolVar(&o.readOnly, "read-only", false, "Mount the container's root filesystem as read only")
	f.StringArrayVar(&o.security, "security-opt", nil, "Security Options")
	f.StringArrayVar(&o.sysctls, "sysctl", nil, "Sysctl options")
	f.StringArrayVar(&o.ulimits, "ulimit", nil, "Ulimit options")
	f.StringArrayVar(&o.devices, "device", nil, "Add a host device to the container")
	f.StringArrayVar(&o.groups, "group-add", nil, "Add additional groups to join")
	f.StringVarP(&o.memory, "memory", "m", "", "Memory limit")
	f.Float64Var(&o.cpus, "cpus", 0, "Number of CPUs")
	f.Int64Var(&o.pids, "pids-limit", 0, "Tune container pids limit (set -1 for unlimited)")
	f.StringVar(&o.shmSize, "shm-size", "", "Size of /dev/shm")
	f.StringVar(&o.stopSignal, "stop-signal", "", "Signal to stop the container")
	f.IntVar(&o.stopTimeout, "stop-timeout", 0, "Timeout (in seconds) to stop a container")
	f.StringVar(&o.healthCmd, "health-cmd", "", "Command to run to check health")
	f.DurationVar(&o.healthInterval, "health-interval", 0, "Time between running the check")
	f.DurationVar(&o.healthTimeout, "health-timeout", 0, "Maximum time to allow one check to run")
	f.DurationVar(&o.healthStart, "health-start-period", 0, "Start period for the container to initialize before starting health-retries countdown")
	f.IntVar(&o.healthRetries, "health-retries", 0, "Consecutive failures needed to report unhealthy")
	f.BoolVar(&o.noHealth, "no-healthcheck", false, "Disable any container-specified HEALTHCHECK")
	f.StringVar(&o.pull, "pull", "missing", `Pull image before creating ("always", "missing", "never")`)
	f.BoolP("help", "", false, "Print usage")
	return c
}

// runContainerRun makes a container of no project and, for run, starts it.
func runContainerRun(ctx context.Context, g *globals, o containerRunOptions, grace, start bool, args []string) error {
	spec, err := o.spec(args[0], args[1:])
	if err != nil {
		return err
	}
	if grace {
		spec.StopTimeout = seconds(o.stopTimeout, true)
	}
	if o.tty && o.interactive && start && !o.detach && !isTerminal(g.in) {
		return errors.New("the input is not a terminal: leave -t out")
	}
	s, err := g.open()
	if err != nil {
		return err
	}
	defer s.close()
	s.name = standalone
	if err := s.lock(ctx); err != nil {
		return err
	}
	if err := s.ensureFor(ctx, o, &spec); err != nil {
		return err
	}
	name := o.name
	if name == "" {
		name = strings.NewReplacer("/", "-", ":", "-", "@", "-").Replace(args[0]) + "-" + randomWord()
	}
	id, err := s.engine.CreateContainer(ctx, local.Draft{Name: name, Project: standalone, Spec: spec, AutoRemove: o.rm})
	if err != nil {
		return err
	}
	s.release()
	if !start {
		_, err := fmt.Fprintln(g.out, id)
		return err
	}
	err = s.runSingle(ctx, o, engine.Container{ID: id, Name: name, Project: standalone, Spec: spec})
	if o.rm && !o.detach {
		return errors.Join(err, s.leave(context.WithoutCancel(ctx), standalone))
	}
	return err
}

func (s *session) runSingle(ctx context.Context, o containerRunOptions, c engine.Container) error {
	f := &foreground{session: s, c: reconcile.ActualContainer{Container: c}, stdin: o.interactive, once: true, proxy: true}
	var err error
	if f.keys, err = detachKeys(o.detachKeys); err != nil {
		return err
	}
	inner, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	if !o.detach {
		if err := errors.Join(f.open(journal.ReadOptions{Tail: -1, Follow: true}), f.hold(inner)); err != nil {
			return err
		}
	}
	if err := s.engine.StartContainer(ctx, c.Project, c.ID); err != nil {
		if o.rm {
			err = joinErrors(err, s.engine.RemoveContainer(inner, c.Project, c.ID, true))
		}
		return fmt.Errorf("start container %s: %w", c.Name, err)
	}
	if o.detach {
		_, err := fmt.Fprintln(s.out, c.ID)
		return err
	}
	return f.gone(inner, o.rm, f.stay(inner))
}

// ensureFor has the image and the network of a single container there.
func (s *session) ensureFor(ctx context.Context, o containerRunOptions, spec *engine.Spec) error {
	have, err := s.engine.Images(ctx, []string{spec.Image})
	if err != nil {
		return err
	}
	if o.pull == "always" || have[spec.Image] == "" && o.pull != "never" {
		step := reconcile.Step{ID: 1, Do: reconcile.PullImage{Ref: spec.Image, Policy: o.pull}, Why: "the image is missing"}
		if err := s.apply(ctx, "pull", []reconcile.Step{step}); err != nil {
			return err
		}
	}
	if len(spec.Endpoints) == 0 || spec.Endpoints[0].Network != standaloneNetwork {
		return nil
	}
	nets, err := s.engine.Networks(ctx, []string{standaloneNetwork})
	if err != nil || len(nets) > 0 {
		return err
	}
	return s.engine.CreateNetwork(ctx, engine.Network{Name: standaloneNetwork, Project: standalone, Driver: "bridge"})
}

// spec is the definition that the flags ask for.
func (o containerRunOptions) spec(image string, args []string) (engine.Spec, error) {
	spec := engine.Spec{
		Image: image, TTY: o.tty, OpenStdin: o.interactive, Hostname: o.hostname, Init: o.init, StopSignal: o.stopSignal,
		ExtraHosts: o.hosts, DNS: o.dns, GroupAdd: o.groups, Labels: map[string]string{},
	}
	spec.Security.Privileged, spec.Security.ReadOnlyRoot, spec.Security.Options = o.privileged, o.readOnly, o.security
	spec.Resources.PidsLimit, spec.Resources.NanoCPUs = o.pids, int64(o.cpus*1e9)
	o.attachTo(&spec)
	o.ports = true
	for _, step := range []func(*engine.Spec) error{o.process, o.environment, o.published, o.mounts, o.rights, o.limits, o.policies} {
		if err := step(&spec); err != nil {
			return spec, err
		}
	}
	if len(args) > 0 {
		spec.Command = args
	}
	for _, l := range o.labels {
		k, v, _ := strings.Cut(l, "=")
		spec.Labels[k] = v
	}
	return spec, nil
}

func (o containerRunOptions) attachTo(spec *engine.Spec) {
	switch n := o.network; {
	case n == "none", n == "host", strings.HasPrefix(n, "container:"):
		spec.NetworkMode = n
	case n == "", n == "default", n == "bridge":
		spec.Endpoints = []engine.EndpointSpec{{Network: standaloneNetwork, Aliases: o.networkAlias}}
	default:
		spec.Endpoints = []engine.EndpointSpec{{Network: n, Aliases: o.networkAlias}}
	}
}

func (o containerRunOptions) published(spec *engine.Spec) error {
	for _, p := range o.publish {
		port, err := publishFlag(p)
		if err != nil {
			return err
		}
		spec.Ports = append(spec.Ports, port)
	}
	for _, text := range o.tmpfs {
		target, options, _ := strings.Cut(text, ":")
		m := engine.Mount{Type: engine.MountTmpfs, Target: target}
		if options != "" {
			m.TmpfsOptions = strings.Split(options, ",")
		}
		spec.Mounts = append(spec.Mounts, m)
	}
	return nil
}

func (o containerRunOptions) limits(spec *engine.Spec) error {
	for flag, to := range map[string]*int64{o.memory: &spec.Resources.Memory, o.shmSize: &spec.Resources.ShmSize} {
		if flag == "" {
			continue
		}
		n, err := units.RAMInBytes(flag)
		if err != nil {
			return fmt.Errorf("%q is not a size, such as 64m: %w", flag, err)
		}
		*to = n
	}
	for _, u := range o.ulimits {
		l, err := units.ParseUlimit(u)
		if err != nil {
			return fmt.Errorf("--ulimit: %w", err)
		}
		spec.Resources.Ulimits = append(spec.Resources.Ulimits, engine.Ulimit{Name: l.Name, Soft: l.Soft, Hard: l.Hard})
	}
	slices.SortFunc(spec.Resources.Ulimits, func(a, b engine.Ulimit) int { return strings.Compare(a.Name, b.Name) })
	for _, s := range o.sysctls {
		k, v, ok := strings.Cut(s, "=")
		if !ok {
			return fmt.Errorf("--sysctl %q: write KEY=VALUE", s)
		}
		if spec.Security.Sysctls == nil {
			spec.Security.Sysctls = engine.Options{}
		}
		spec.Security.Sysctls[k] = v
	}
	for _, d := range o.devices {
		parts := strings.Split(d, ":")
		dev := engine.Device{Source: parts[0], Target: parts[0]}
		if len(parts) > 1 {
			dev.Target = parts[1]
		}
		if len(parts) > 2 {
			dev.Permissions = parts[2]
		}
		spec.Security.Devices = append(spec.Security.Devices, dev)
	}
	return nil
}

func (o containerRunOptions) policies(spec *engine.Spec) error {
	mode, times, counted := strings.Cut(o.restart, ":")
	switch mode {
	case "no", "":
	case "always", "unless-stopped", "on-failure":
		spec.Restart.Mode = mode
		if counted {
			n, err := strconv.Atoi(times)
			if err != nil || mode != "on-failure" {
				return fmt.Errorf("--restart %q: write on-failure:N", o.restart)
			}
			spec.Restart.MaxRetries = n
		}
	default:
		return fmt.Errorf("--restart %q: use one of no, always, on-failure[:N], unless-stopped", o.restart)
	}
	if spec.Restart.Mode != "" && o.rm {
		return errors.New("--restart and --rm are incompatible")
	}
	if o.noHealth {
		spec.Health = &engine.HealthCheck{Test: []string{"NONE"}}
	}
	if o.healthCmd != "" {
		spec.Health = &engine.HealthCheck{
			Test: []string{"CMD-SHELL", o.healthCmd}, Interval: engine.Duration(o.healthInterval), Timeout: engine.Duration(o.healthTimeout),
			StartPeriod: engine.Duration(o.healthStart), Retries: o.healthRetries,
		}
	}
	return nil
}

// process reads --entrypoint as docker does: one word, whatever is in it.
func (o containerRunOptions) process(spec *engine.Spec) error {
	if err := o.runOptions.process(spec); err != nil || !o.entrypointSet || o.entrypoint == "" {
		return err
	}
	if words, err := shellwords.Parse(o.entrypoint); err == nil && len(words) == 1 {
		return nil
	}
	spec.Entrypoint, spec.NoEntry = []string{o.entrypoint}, false
	return nil
}
