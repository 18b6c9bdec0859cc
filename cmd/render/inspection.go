package render

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/davit-run/davit/engine"
)

// An Inspection is a container as `docker inspect` prints it, field for field
// as far as davit has something to say.
type Inspection struct {
	ID              string `json:"Id"`
	Created         string
	Path            string
	Args            []string
	State           InspectState
	Image           string
	ResolvConfPath  string
	HostnamePath    string
	HostsPath       string
	LogPath         string
	Name            string
	RestartCount    int
	Driver          string
	Platform        string
	MountLabel      string
	ProcessLabel    string
	AppArmorProfile string
	ExecIDs         []string
	HostConfig      map[string]any
	Mounts          []InspectMount
	Config          map[string]any
	NetworkSettings map[string]any
}

// An InspectState is the State of an Inspection.
type InspectState struct {
	Status     string
	Running    bool
	Paused     bool
	Restarting bool
	OOMKilled  bool
	Dead       bool
	Pid        int
	ExitCode   int
	Error      string
	StartedAt  string
	FinishedAt string
	Health     *InspectHealth `json:",omitempty"`
}

// An InspectHealth is the Health of an InspectState.
type InspectHealth struct {
	Status        string
	FailingStreak int
	Log           []InspectProbe
}

// An InspectProbe is one health check.
type InspectProbe struct {
	Start, End string
	ExitCode   int
	Output     string
}

// An InspectMount is one of the Mounts of an Inspection.
type InspectMount struct {
	Type        string
	Name        string `json:",omitempty"`
	Source      string
	Destination string
	Driver      string `json:",omitempty"`
	Mode        string
	RW          bool
	Propagation string
}

// InspectContainer is a container in docker's shape; dir is its own folder, and volume
// tells where a volume's content lies.
func InspectContainer(s engine.Snapshot, dir string, volume func(name string) string) Inspection {
	words := commandWords(s.Container)
	path, args := "", []string{}
	if len(words) > 0 {
		path, args = words[0], words[1:]
	}
	in := Inspection{
		ID: s.ID, Created: stamp(s.Created), Path: path, Args: args, State: inspectState(s.State), Image: s.ImageID,
		ResolvConfPath: dir + "/resolv.conf", HostnamePath: dir + "/hostname", HostsPath: dir + "/hosts", LogPath: dir + "/log",
		Name: "/" + s.Name, RestartCount: s.State.Restarts, Driver: "overlayfs", Platform: "linux",
		HostConfig: hostConfig(s.Container), Mounts: []InspectMount{}, Config: inspectConfig(s.Container), NetworkSettings: networkSettings(s),
	}
	for _, m := range s.Spec.Mounts {
		in.Mounts = append(in.Mounts, inspectMount(s.Container, m, volume))
	}
	for _, target := range slices.Sorted(maps.Keys(s.Volumes)) {
		covered := slices.ContainsFunc(s.Spec.Mounts, func(m engine.Mount) bool { return m.Target == target })
		if !covered {
			in.Mounts = append(in.Mounts, inspectMount(s.Container, engine.Mount{Type: engine.MountVolume, Target: target}, volume))
		}
	}
	return in
}

// stamp is a moment as docker writes it; the zero one has its year 1.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

func inspectState(s engine.State) InspectState {
	out := InspectState{
		Status: string(s.Status), Running: s.Status == engine.Running || s.Status == engine.Paused || s.Status == engine.Restarting,
		Paused: s.Status == engine.Paused, Restarting: s.Status == engine.Restarting, OOMKilled: s.OOMKilled,
		Dead: s.Status == engine.Dead, Pid: s.PID, ExitCode: s.ExitCode, Error: s.Error,
		StartedAt: stamp(s.StartedAt), FinishedAt: stamp(s.FinishedAt),
	}
	if s.Health == nil {
		return out
	}
	out.Health = &InspectHealth{Status: s.Health.Status, FailingStreak: s.Health.Failing, Log: []InspectProbe{}}
	for _, p := range s.Health.Log {
		out.Health.Log = append(out.Health.Log, InspectProbe{stamp(p.Start), stamp(p.End), p.ExitCode, p.Output})
	}
	return out
}

func inspectMount(c engine.Container, m engine.Mount, volume func(string) string) InspectMount {
	out := InspectMount{Type: m.Type, Source: m.Source, Destination: m.Target, RW: !m.ReadOnly, Propagation: m.Propagation}
	switch m.Type {
	case engine.MountVolume:
		out.Name, out.Driver, out.Mode = c.Volumes[m.Target], "local", "z"
		out.Source = volume(out.Name)
	case engine.MountBind:
		if out.Propagation == "" {
			out.Propagation = "rprivate"
		}
	}
	return out
}

func inspectConfig(c engine.Container) map[string]any {
	s, i := c.Spec, c.ImageConfig
	env := map[string]string{}
	for _, word := range i.Env {
		k, v, _ := strings.Cut(word, "=")
		env[k] = v
	}
	maps.Copy(env, s.Env)
	var vars []string
	for _, k := range slices.Sorted(maps.Keys(env)) {
		if !slices.Contains(s.UnsetEnv, k) {
			vars = append(vars, k+"="+env[k])
		}
	}
	entry, cmd := i.Entrypoint, i.Cmd
	if len(s.Entrypoint) > 0 || s.NoEntry {
		entry, cmd = s.Entrypoint, nil
	}
	if s.Command != nil || s.NoCommand {
		cmd = s.Command
	}
	hostname := s.Hostname
	if hostname == "" {
		hostname = c.ID[:min(12, len(c.ID))]
	}
	labels := maps.Clone(i.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, s.Labels)
	out := map[string]any{
		"Hostname": hostname, "Domainname": s.Domainname, "User": first(s.User, i.User), "Tty": s.TTY, "OpenStdin": s.OpenStdin,
		"AttachStdin": false, "AttachStdout": true, "AttachStderr": true, "StdinOnce": false,
		"Env": vars, "Cmd": cmd, "Image": s.Image, "Volumes": i.Volumes, "WorkingDir": first(s.WorkingDir, i.WorkingDir),
		"Entrypoint": entry, "Labels": labels, "StopSignal": first(s.StopSignal, i.StopSignal, "SIGTERM"), "ExposedPorts": exposedSet(c),
	}
	if s.StopTimeout != nil {
		out["StopTimeout"] = int(time.Duration(*s.StopTimeout).Seconds())
	}
	if h := s.Health; h != nil {
		out["Healthcheck"] = map[string]any{
			"Test": h.Test, "Interval": int64(h.Interval), "Timeout": int64(h.Timeout), "StartPeriod": int64(h.StartPeriod),
			"StartInterval": int64(h.StartInterval), "Retries": h.Retries,
		}
	} else if i.Healthcheck != nil {
		out["Healthcheck"] = i.Healthcheck
	}
	return out
}

func first(words ...string) string {
	for _, w := range words {
		if w != "" {
			return w
		}
	}
	return ""
}

func exposedSet(c engine.Container) map[string]struct{} {
	out := map[string]struct{}{}
	for _, p := range exposed(c) {
		out[strconv.Itoa(p.TargetPort)+"/"+p.Protocol] = struct{}{}
	}
	for _, p := range c.Spec.Ports {
		out[strconv.Itoa(int(p.ContainerPort))+"/"+p.Protocol] = struct{}{}
	}
	return out
}

func hostConfig(c engine.Container) map[string]any {
	s, r, sec := c.Spec, c.Spec.Resources, c.Spec.Security
	mode := s.NetworkMode
	if mode == "" && len(s.Endpoints) > 0 {
		mode = s.Endpoints[0].Network
	}
	var binds []string
	for _, m := range s.Mounts {
		if m.Type != engine.MountBind && (m.Type != engine.MountVolume || m.Source == "") {
			continue
		}
		access := ":rw"
		if m.ReadOnly {
			access = ":ro"
		}
		binds = append(binds, m.Source+":"+m.Target+access)
	}
	ports := map[string]any{}
	for _, p := range s.Ports {
		host := ""
		if p.HostPort != 0 {
			host = strconv.Itoa(int(p.HostPort))
		}
		key := strconv.Itoa(int(p.ContainerPort)) + "/" + p.Protocol
		list, _ := ports[key].([]map[string]string)
		ports[key] = append(list, map[string]string{"HostIp": p.HostIP, "HostPort": host})
	}
	return map[string]any{
		"Binds": binds, "NetworkMode": mode, "PortBindings": ports, "AutoRemove": c.AutoRemove,
		"RestartPolicy": map[string]any{"Name": first(s.Restart.Mode, "no"), "MaximumRetryCount": s.Restart.MaxRetries},
		"LogConfig":     map[string]any{"Type": first(s.Log.Driver, "json-file"), "Config": s.Log.Options},
		"CapAdd":        sec.CapAdd, "CapDrop": sec.CapDrop, "Privileged": sec.Privileged, "ReadonlyRootfs": sec.ReadOnlyRoot,
		"SecurityOpt": sec.Options, "Sysctls": sec.Sysctls, "IpcMode": first(sec.IPC, "private"), "PidMode": sec.PID, "UTSMode": sec.UTS,
		"UsernsMode": sec.Userns, "CgroupnsMode": first(sec.Cgroup, "private"), "Devices": sec.Devices, "DeviceCgroupRules": sec.DeviceRules,
		"Dns": s.DNS, "DnsSearch": s.DNSSearch, "DnsOptions": s.DNSOptions, "ExtraHosts": s.ExtraHosts, "GroupAdd": s.GroupAdd,
		"Init": s.Init, "Memory": r.Memory, "MemoryReservation": r.MemoryReservation, "MemorySwap": r.MemorySwap,
		"MemorySwappiness": r.MemorySwappiness, "NanoCpus": r.NanoCPUs, "CpuShares": r.CPUShares, "CpuQuota": r.CPUQuota,
		"CpuPeriod": r.CPUPeriod, "CpusetCpus": r.CpusetCpus, "CpusetMems": r.CpusetMems, "PidsLimit": r.PidsLimit,
		"OomKillDisable": r.OOMKillDisable, "OomScoreAdj": r.OOMScoreAdj, "BlkioWeight": r.BlkioWeight, "Ulimits": ulimitList(r.Ulimits),
		"ShmSize": r.ShmSize, "CgroupParent": r.CgroupParent, "Annotations": s.Annotations, "Runtime": "davit-runtime",
	}
}

func ulimitList(all []engine.Ulimit) []map[string]any {
	var out []map[string]any
	for _, u := range all {
		out = append(out, map[string]any{"Name": u.Name, "Soft": u.Soft, "Hard": u.Hard})
	}
	return out
}

func networkSettings(s engine.Snapshot) map[string]any {
	nets := map[string]any{}
	for _, want := range s.Spec.Endpoints {
		e := map[string]any{
			"Aliases": want.Aliases, "MacAddress": want.MAC, "IPAddress": "", "IPPrefixLen": 0, "Gateway": "",
			"GlobalIPv6Address": "", "GlobalIPv6PrefixLen": 0, "IPv6Gateway": "", "DriverOpts": want.DriverOpts, "GwPriority": want.GWPriority,
		}
		for _, got := range s.State.Endpoints {
			if got.Network == want.Network {
				e["MacAddress"], e["Gateway"], e["IPv6Gateway"] = got.MAC, got.Gateway, got.Gateway6
				e["IPAddress"], e["IPPrefixLen"] = address(got.IPv4)
				e["GlobalIPv6Address"], e["GlobalIPv6PrefixLen"] = address(got.IPv6)
			}
		}
		nets[want.Network] = e
	}
	ports := map[string]any{}
	for key := range exposedSet(s.Container) {
		ports[key] = nil
	}
	for _, b := range s.State.Ports {
		key := strconv.Itoa(int(b.ContainerPort)) + "/" + b.Protocol
		list, _ := ports[key].([]map[string]string)
		ports[key] = append(list, map[string]string{"HostIp": first(b.HostIP, "0.0.0.0"), "HostPort": strconv.Itoa(int(b.HostPort))})
	}
	return map[string]any{"Networks": nets, "Ports": ports}
}

func address(cidr string) (string, int) {
	p, err := netip.ParsePrefix(cidr)
	if err != nil {
		return cidr, 0
	}
	return p.Addr().String(), p.Bits()
}
