package bundle

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runc/libcontainer/configs"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
)

func build(t *testing.T, c *engine.Container) (*Bundle, error) {
	t.Helper()
	f := *ReadFacts()
	return Build(c, Place{Rootfs: "/nowhere", Cgroup: "/davit/test/x", Facts: &f, Binds: map[string]string{"/b": "/srv"}})
}

func container(s engine.Spec) *engine.Container {
	if s.Entrypoint == nil {
		s.Entrypoint = []string{"/bin/true"}
	}
	return &engine.Container{ID: strings.Repeat("ab", 32), Name: "t-1", Spec: s}
}

func TestArgs(t *testing.T) {
	image := engine.ImageConfig{Entrypoint: []string{"ie"}, Cmd: []string{"ic"}}
	for name, row := range map[string]struct {
		spec engine.Spec
		want string
	}{
		"the image's own":                         {engine.Spec{}, "ie ic"},
		"a command replaces the image's":          {engine.Spec{Command: []string{"c"}}, "ie c"},
		"an entrypoint drops the image's command": {engine.Spec{Entrypoint: []string{"e"}}, "e"},
		"both":                               {engine.Spec{Entrypoint: []string{"e"}, Command: []string{"c"}}, "e c"},
		"an empty command drops the image's": {engine.Spec{NoCommand: true}, "ie"},
		"an empty entrypoint leaves the image's command": {engine.Spec{NoEntry: true}, "ic"},
		"an empty entrypoint with a command":             {engine.Spec{NoEntry: true, Command: []string{"c"}}, "c"},
		"nothing at all":                                 {engine.Spec{NoEntry: true, NoCommand: true}, ""},
	} {
		got, err := Args(&row.spec, &image)
		if strings.Join(got, " ") != row.want || (err != nil) != (row.want == "") {
			t.Errorf("%s: %q, want %q (%v)", name, got, row.want, err)
		}
	}
}

func TestEnvironment(t *testing.T) {
	c := container(engine.Spec{
		Env: map[string]string{"B": "spec", "C": "3"}, UnsetEnv: []string{"GONE"}, TTY: true, Hostname: "web",
	})
	c.ImageConfig.Env = []string{"A=1", "B=image", "GONE=x", "HOME="}
	b, err := build(t, c)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"PATH=" + DefaultPath, "HOSTNAME=web", "TERM=xterm", "A=1", "B=spec", "HOME=/", "C=3"}
	if !reflect.DeepEqual(b.Process.Env, want) {
		t.Errorf("%q", b.Process.Env)
	}
}

func TestUsers(t *testing.T) {
	dir := t.TempDir()
	os.MkdirAll(dir+"/etc", 0o755)
	write := func(name, text string) { os.WriteFile(dir+"/etc/"+name, []byte(text), 0o644) }
	write("passwd", "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n4294967296:x:0:0::/:/bin/sh\n500:x:0:0::/:\nbad:x:no:1::/:\nneg:x:-1:0::/:\n")
	write("group", "root:x:0:\nann:x:1000:\nwheel:x:10:root,ann\nvideo:x:44:ann\n")
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for spec, want := range map[string]User{
		"":           {0, 0, []int{0, 10}, "/root"},
		"0":          {0, 0, []int{0, 10}, "/root"},
		"root":       {0, 0, []int{0, 10}, "/root"},
		"ann":        {1000, 1000, []int{1000, 10, 44}, "/home/ann"},
		"1000":       {1000, 1000, []int{1000, 10, 44}, "/home/ann"},
		"ann:video":  {1000, 44, []int{44}, "/home/ann"},
		"ann:77":     {1000, 77, []int{77}, "/home/ann"},
		"500":        {500, 0, []int{0}, "/"}, // not the user of that name, who is root
		"4321:8765":  {4321, 8765, []int{8765}, "/"},
		"2147483647": {2147483647, 0, []int{0}, "/"},
		"2147483648": {}, "4294967296": {}, "99999999999999999999": {}, "nosuch": {}, "ann:nosuch": {}, "-1": {}, "bad": {}, "neg": {}, "ann:-1": {},
	} {
		u, err := LookupUser(root, spec, nil)
		if want.Home == "" {
			if err == nil {
				t.Errorf("%q: let through as %+v", spec, u)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(u, want) {
			t.Errorf("%q: %+v, want %+v (%v)", spec, u, want, err)
		}
	}
	if u, err := LookupUser(root, "ann", []string{"99", "root"}); err != nil || !slices.Equal(u.Groups, []int{1000, 10, 44, 99, 0}) {
		t.Errorf("groups %v: %v", u.Groups, err)
	}
	if _, err := LookupUser(root, "", []string{"nosuch"}); err == nil {
		t.Error("an unknown group was let through")
	}
}

// A hostile image's passwd is neither waited for, nor followed out, nor read
// without end.
func TestHostilePasswd(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "passwd")
	os.WriteFile(outside, []byte("ann:x:5:5::/:\n"), 0o644)
	for name, make := range map[string]func(string) error{
		"a FIFO":         func(p string) error { return unix.Mkfifo(p, 0o644) },
		"endless":        func(p string) error { return os.Symlink("/dev/zero", p) },
		"outside":        func(p string) error { return os.Symlink(outside, p) },
		"a directory":    func(p string) error { return os.Mkdir(p, 0o755) },
		"one long line":  func(p string) error { return os.WriteFile(p, []byte(strings.Repeat("x", maxLine+5)), 0o644) },
		"a huge, sparse": func(p string) error { f, _ := os.Create(p); defer f.Close(); return f.Truncate(4 << 30) },
	} {
		dir := t.TempDir()
		os.Mkdir(dir+"/etc", 0o755)
		if err := make(dir + "/etc/passwd"); err != nil {
			t.Fatal(err)
		}
		root, _ := os.Open(dir)
		if u, err := LookupUser(root, "ann", nil); err == nil {
			t.Errorf("%s: ann is %+v", name, u)
		}
		root.Close()
	}
	dir := t.TempDir()
	os.MkdirAll(dir+"/real", 0o755)
	os.Symlink("/real", dir+"/etc")
	os.WriteFile(dir+"/real/passwd", []byte("ann:x:5:6::/:\n"), 0o644)
	root, _ := os.Open(dir)
	defer root.Close()
	if u, err := LookupUser(root, "ann", nil); err != nil || u.UID != 5 {
		t.Errorf("a link inside the image: %+v %v", u, err)
	}
}

func TestCapabilities(t *testing.T) {
	all, _ := tweakCaps(true, false, nil, nil)
	for name, row := range map[string]struct {
		tight     bool
		add, drop []string
		want      int
		has, not  string
	}{
		"default":                  {false, nil, nil, 14, "CAP_NET_RAW", "CAP_SYS_ADMIN"},
		"tight":                    {true, nil, nil, 11, "CAP_CHOWN", "CAP_NET_RAW"},
		"one more":                 {false, []string{"sys_time"}, nil, 15, "CAP_SYS_TIME", "CAP_SYS_ADMIN"},
		"one less":                 {false, nil, []string{"CAP_MKNOD"}, 13, "CAP_CHOWN", "CAP_MKNOD"},
		"none":                     {false, nil, []string{"all"}, 0, "", "CAP_CHOWN"},
		"none but one":             {false, []string{"CHOWN"}, []string{"ALL"}, 1, "CAP_CHOWN", "CAP_MKNOD"},
		"all":                      {false, []string{"ALL"}, nil, len(all), "CAP_SYS_ADMIN", ""},
		"all but one":              {false, []string{"ALL"}, []string{"SYS_ADMIN"}, len(all) - 1, "CAP_CHOWN", "CAP_SYS_ADMIN"},
		"added and dropped: added": {false, []string{"CHOWN"}, []string{"CHOWN"}, 14, "CAP_CHOWN", ""},
	} {
		caps, err := tweakCaps(false, row.tight, row.add, row.drop)
		if err != nil || len(caps) != row.want || row.has != "" && !slices.Contains(caps, row.has) || slices.Contains(caps, row.not) {
			t.Errorf("%s: %v (%v)", name, caps, err)
		}
	}
	if _, err := tweakCaps(false, false, []string{"FLY"}, nil); err == nil {
		t.Error("FLY is a capability")
	}
	b, err := build(t, container(engine.Spec{}))
	if err != nil {
		t.Fatal(err)
	}
	if c := b.Config.Capabilities; len(c.Inheritable)+len(c.Ambient) != 0 || len(c.Effective) == 0 {
		t.Errorf("%+v", c)
	}
}

func TestMaskedAndReadOnlyPathsAreTheListed(t *testing.T) {
	b, err := build(t, container(engine.Spec{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range strings.Fields("/proc/acpi /proc/asound /proc/interrupts /proc/kcore /proc/keys /proc/latency_stats /proc/sched_debug /proc/scsi /proc/timer_list /proc/timer_stats /sys/devices/virtual/powercap /sys/firmware /sys/fs/selinux") {
		if !slices.Contains(b.Config.MaskPaths, p) {
			t.Errorf("%s is not masked", p)
		}
	}
	if got := strings.Join(b.Config.ReadonlyPaths, " "); got != "/proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger" {
		t.Errorf("read-only: %s", got)
	}
	for _, s := range []engine.Security{{Privileged: true}, {Options: []string{"systempaths=unconfined"}}} {
		b, err := build(t, container(engine.Spec{Security: s}))
		if err != nil || len(b.Config.MaskPaths)+len(b.Config.ReadonlyPaths) != 0 {
			t.Errorf("%+v: %v", s, err)
		}
	}
}

func TestSecurityOptions(t *testing.T) {
	for opt, ok := range map[string]bool{
		"no-new-privileges": true, "no-new-privileges:true": true, "no-new-privileges=false": true, "no-new-privileges:maybe": false,
		"seccomp=unconfined": true, "seccomp:builtin": true, `seccomp={"defaultAction":"SCMP_ACT_ALLOW"}`: true,
		"seccomp=profile.json": false, "seccomp=/nosuch/file": false, "seccomp={": false, "seccomp=/dev/zero": false,
		"systempaths=unconfined": true, "systempaths=all": false, "label=disable": true, "apparmor=unconfined": true,
		"writable-cgroups=true": true, "rubbish": false, "": false,
	} {
		b, err := build(t, container(engine.Spec{Security: engine.Security{Options: []string{opt}}}))
		if (err == nil) != ok {
			t.Errorf("%q: %v", opt, err)
		}
		if err == nil && b.Config.NoNewPrivileges != (opt == "no-new-privileges" || opt == "no-new-privileges:true") {
			t.Errorf("%q: no new privileges %v", opt, b.Config.NoNewPrivileges)
		}
		if err == nil && (b.Config.Seccomp == nil) != (opt == "seccomp=unconfined") {
			t.Errorf("%q: filter %v", opt, b.Config.Seccomp != nil)
		}
	}
}

func TestTheDefaultFilterIsMobys(t *testing.T) {
	b, err := build(t, container(engine.Spec{}))
	if err != nil {
		t.Fatal(err)
	}
	p := b.Config.Seccomp
	allowed := map[string]int{}
	for _, s := range p.Syscalls {
		allowed[s.Name]++
	}
	for _, never := range strings.Fields("keyctl add_key request_key io_uring_setup userfaultfd kexec_load move_pages pivot_root swapon mount unshare bpf") {
		if allowed[never] != 0 {
			t.Errorf("%s has a rule", never)
		}
	}
	if allowed["socket"] != 3 || allowed["read"] != 1 || len(p.Syscalls) < 361 {
		t.Errorf("socket %d rules, %d rules in all", allowed["socket"], len(p.Syscalls))
	}
	if len(p.Architectures) > 2 {
		t.Errorf("architectures %v", p.Architectures)
	}
	n, err := build(t, container(engine.Spec{Security: engine.Security{NoCompat32: true, CapAdd: []string{"SYS_ADMIN"}}}))
	if err != nil || len(n.Config.Seccomp.Architectures) != 1 {
		t.Errorf("native only: %v", err)
	}
	if !slices.ContainsFunc(n.Config.Seccomp.Syscalls, func(s *configs.Syscall) bool { return s.Name == "mount" }) {
		t.Error("SYS_ADMIN does not bring mount")
	}
}

func TestDevices(t *testing.T) {
	b, err := build(t, container(engine.Spec{Security: engine.Security{
		Devices:     []engine.Device{{Source: "/dev/null", Target: "/dev/nothing", Permissions: "r"}},
		DeviceRules: []string{"c 1:3 mr", "b *:* rwm", "a 7:* r"},
	}}))
	if err != nil {
		t.Fatal(err)
	}
	rules := b.Config.Cgroups.Devices
	if rules[0].Allow || rules[0].Type != 'a' {
		t.Errorf("the first rule is %+v", rules[0])
	}
	for _, r := range rules[:len(rules)-3] {
		if r.Allow && r.Major == 10 {
			t.Errorf("a default rule allows %+v", r)
		}
	}
	if n := len(b.Config.Devices); n != 7 || b.Config.Devices[6].Path != "/dev/nothing" {
		t.Errorf("%d nodes", n)
	}
	for _, bad := range []string{"", "c 1:3", "x 1:3 r", "c 1 r", "c 1:3 q", "c 1:-3 r", "c 99999999999:1 r"} {
		if _, err := deviceRule(bad); err == nil {
			t.Errorf("%q is a rule", bad)
		}
	}
	for _, bad := range []engine.Device{{Source: "/nosuch"}, {Source: "/etc/passwd"}, {Source: "/dev/null", Permissions: "x"}} {
		if _, err := hostDevice(bad); err == nil {
			t.Errorf("%+v is a device", bad)
		}
	}
}

func TestClamps(t *testing.T) {
	c := container(engine.Spec{Resources: engine.Resources{
		OOMScoreAdj: -900, Ulimits: []engine.Ulimit{{Name: "nofile", Soft: 5000, Hard: 9_999_999}, {Name: "nproc", Soft: -1, Hard: -1}},
	}})
	b, err := Build(c, Place{Facts: &Facts{NoFile: 4096, MaxOpen: 1 << 20, Controllers: map[string]bool{}}, Cgroup: "/x"})
	if err != nil {
		t.Fatal(err)
	}
	if l := b.Config.Rlimits[0]; l.Hard != 4096 || l.Soft != 4096 || *b.Config.OomScoreAdj != 0 {
		t.Errorf("%+v, oom %d", l, *b.Config.OomScoreAdj)
	}
	if len(b.Warnings) < 2 {
		t.Errorf("clamped without a word: %q", b.Warnings)
	}
	b, err = Build(container(engine.Spec{}), Place{Facts: &Facts{NoFile: 4096, MaxOpen: 1 << 20, SysResource: true}, Cgroup: "/x"})
	if err != nil || b.Config.Rlimits[0].Soft != 1024 || b.Config.Rlimits[0].Hard != 524288 || len(b.Warnings) != 0 {
		t.Errorf("%+v %q %v", b.Config.Rlimits, b.Warnings, err)
	}
	for _, bad := range []engine.Ulimit{{Name: "nothing"}, {Name: "nofile", Soft: 2, Hard: 1}, {Name: "core", Soft: -1, Hard: 5}} {
		if _, err := build(t, container(engine.Spec{Resources: engine.Resources{Ulimits: []engine.Ulimit{bad}}})); err == nil {
			t.Errorf("%+v was let through", bad)
		}
	}
}

func TestNamespacesAndSysctls(t *testing.T) {
	b, err := build(t, container(engine.Spec{Security: engine.Security{Sysctls: engine.Options{"net.core.somaxconn": "5"}}}))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"net.ipv4.ping_group_range": "0 2147483647", "net.ipv4.ip_unprivileged_port_start": "0", "net.core.somaxconn": "5"}
	if !reflect.DeepEqual(b.Config.Sysctl, want) || len(b.Config.Namespaces) < 5 {
		t.Errorf("%v %v", b.Config.Sysctl, b.Config.Namespaces)
	}
	host, err := Build(container(engine.Spec{Security: engine.Security{PID: "host", IPC: "host", UTS: "host"}}), Place{HostNet: true, Cgroup: "/x"})
	if err != nil || len(host.Config.Sysctl) != 0 || host.Config.Hostname != "" {
		t.Errorf("host: %v %v", host, err)
	}
	for _, bad := range []engine.Security{{PID: "service:x"}, {IPC: "what"}, {UTS: "container:x"}, {Userns: "auto"}} {
		if _, err := build(t, container(engine.Spec{Security: bad})); err == nil {
			t.Errorf("%+v was let through", bad)
		}
	}
	if _, err := build(t, container(engine.Spec{Hostname: "x", Security: engine.Security{UTS: "host"}})); err == nil {
		t.Error("the host's name can be changed")
	}
}

func TestTmpfsOptions(t *testing.T) {
	m, err := tmpfs(engine.Mount{TmpfsOptions: []string{"exec,size=64m", "uid=5"}, TmpfsMode: 0o700}, "/t")
	if err != nil || m.Data != "size=64m,uid=5,mode=700" || m.Flags != unix.MS_NOSUID|unix.MS_NODEV {
		t.Errorf("%+v %v", m, err)
	}
}
