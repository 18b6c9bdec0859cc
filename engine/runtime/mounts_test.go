package runtime

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/bundle"
)

func mounts(m ...engine.Mount) func(*engine.Container) {
	return func(c *engine.Container) { c.Spec.Mounts = append(c.Spec.Mounts, m...) }
}

func TestBindsVolumesAndTmpfs(t *testing.T) {
	r := newRig(t)
	host := t.TempDir()
	os.WriteFile(host+"/f", []byte("host"), 0o644)
	data := r.layout.VolumeData("vol")
	os.MkdirAll(data+"/sub/deep", 0o755)
	os.WriteFile(data+"/sub/deep/f", []byte("volume"), 0o644)
	code, out := r.run(r.container(`
cat /b/f /s/f; echo; echo x >/b/g; echo y 2>&- >/ro/h && echo "ro is writable"
echo z >/v/new; grep ' /t ' /proc/mounts; stat -c %a /t /dev/shm; df -k /t | tail -1 | tr -s ' ' | cut -d' ' -f2`,
		mounts(
			engine.Mount{Type: engine.MountBind, Source: host, Target: "/b"},
			engine.Mount{Type: engine.MountBind, Source: host, Target: "/ro", ReadOnly: true},
			engine.Mount{Type: engine.MountVolume, Source: "vol", Target: "/v"},
			engine.Mount{Type: engine.MountVolume, Source: "vol", Target: "/s", Subpath: "sub/deep"},
			engine.Mount{Type: engine.MountTmpfs, Target: "/t", TmpfsSize: 1 << 20, TmpfsMode: 0o1770},
			engine.Mount{Type: engine.MountBind, Source: host + "/made/here", Target: "/made", CreateHostPath: true},
		)))
	if code != 0 || !strings.HasPrefix(out, "hostvolume\n") || strings.Contains(out, "ro is writable") {
		t.Errorf("code %d: %s", code, out)
	}
	if !strings.Contains(out, "nosuid,nodev,noexec") || !strings.Contains(out, "1770\n1777\n1024\n") {
		t.Errorf("tmpfs: %s", out)
	}
	for _, f := range []string{host + "/g", data + "/new", host + "/made/here"} {
		if _, err := os.Stat(f); err != nil {
			t.Error(err)
		}
	}
}

func TestMountsThatAreRefused(t *testing.T) {
	r := newRig(t)
	host := t.TempDir()
	for _, target := range []string{"/", "/proc", "/proc/self/attr", "/proc/sys", "//proc/../proc/acpi", "relative"} {
		_, _, err := r.try(r.container("true", mounts(engine.Mount{Type: engine.MountBind, Source: host, Target: target})))
		if err == nil {
			t.Errorf("a mount at %q was let through", target)
		}
	}
	for _, m := range []engine.Mount{
		{Type: engine.MountBind, Source: host + "/nosuch", Target: "/b"},
		{Type: engine.MountBind, Source: host, Target: "/b", Propagation: "sideways"},
		{Type: engine.MountTmpfs, Target: "/t", TmpfsOptions: []string{"context=x"}},
		{Type: engine.MountVolume, Source: "novolume", Target: "/v"},
	} {
		if _, _, err := r.try(r.container("true", mounts(m))); err == nil {
			t.Errorf("%+v was let through", m)
		}
	}
	for fd := 3; fd <= 40; fd++ {
		dir := fmt.Sprintf("/proc/self/fd/%d", fd)
		if _, err := bundle.Build(r.container("true", func(c *engine.Container) { c.Spec.WorkingDir = dir }), bundle.Place{Cgroup: "/x"}); err == nil {
			t.Errorf("working directory %s was let through", dir)
		}
	}
}

// A link in a volume never leads out of it, and the image's own /proc is none.
func TestLinksDoNotLeadOut(t *testing.T) {
	r := newRig(t)
	data := r.layout.VolumeData("vol")
	os.MkdirAll(data, 0o755)
	os.Symlink("/etc", data+"/abs")
	os.Symlink("../../../../../../../../etc", data+"/rel")
	for _, sub := range []string{"abs", "rel"} {
		if code, out, err := r.try(r.container("cat /s/hostname /s/passwd", mounts(engine.Mount{Type: engine.MountVolume, Source: "vol", Target: "/s", Subpath: sub}))); err == nil && code == 0 {
			t.Errorf("%s shows %s", sub, out)
		}
	}
	outside := t.TempDir()
	fs := r.layout.LayerFS("evil")
	os.MkdirAll(fs+"/bin", 0o755)
	exec.Command("cp", "-a", r.layout.LayerFS("base")+"/bin/.", fs+"/bin").Run()
	os.Symlink(outside, fs+"/dev")
	os.Symlink(outside, fs+"/proc")
	_, _, err := r.try(r.container("true", func(c *engine.Container) { c.Layers = []string{"evil"} }))
	if err == nil {
		t.Error("an image whose /proc is a link was started")
	}
	if left, _ := os.ReadDir(outside); len(left) != 0 {
		t.Errorf("written outside: %v", left)
	}
}

func TestSecretsAreInMemoryWithTheirOwner(t *testing.T) {
	r := newRig(t)
	os.MkdirAll(r.layout.Secrets(), 0o700)
	os.WriteFile(r.layout.Secrets()+"/k1", []byte("hush"), 0o600)
	c := r.container("cat /run/secrets/s; stat -c ' %u:%g %a' /run/secrets/s /conf; echo x 2>&- >/conf; df /conf | tail -1 | cut -d' ' -f1", func(c *engine.Container) {
		c.Spec.Security.ReadOnlyRoot = true
		c.Spec.Files = []engine.FileMount{
			{Kind: "secret", Name: "s", Key: "k1", Target: "/run/secrets/s", UID: 1000, GID: 10, Mode: 0o440},
			{Kind: "config", Name: "c", Key: "k1", Target: "/conf"},
		}
	})
	if _, out := r.run(c); out != "hush 1000:10 440\n 0:0 444\ntmpfs\n" {
		t.Errorf("%q", out)
	}
	os.Remove(r.layout.Secrets() + "/k1")
	os.Symlink("/etc/passwd", r.layout.Secrets()+"/k1")
	if _, _, err := r.try(c); err == nil {
		t.Error("a link in a secret's place was followed")
	}
}

func TestReadOnlyRootUmaskHostnameAndFiles(t *testing.T) {
	r := newRig(t)
	umask := uint32(0o077)
	c := r.container("touch /x 2>&- && echo writable; cat /etc/hosts; hostname; hostname -d; umask; ulimit -n; ulimit -Hn; ulimit -c; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; echo $0", func(c *engine.Container) {
		c.Spec.Security.ReadOnlyRoot, c.Spec.Umask, c.Spec.Hostname, c.Spec.Domainname = true, &umask, "web", "example.org"
		c.Spec.Resources.Ulimits = []engine.Ulimit{{Name: "core", Soft: 0, Hard: 0}}
	})
	os.WriteFile(filepath.Join(r.layout.Container(c.Project, c.ID), "hosts"), []byte("127.0.0.1 web\n"), 0o644)
	_, out := r.run(c)
	hard := "524288"
	if f := bundle.ReadFacts(); !f.SysResource && f.NoFile < 524288 {
		hard = fmt.Sprint(f.NoFile)
	}
	if want := "127.0.0.1 web\nweb\n"; !strings.HasPrefix(out, want) || !strings.Contains(out, "0077\n1024\n"+hard+"\n0\n0\n") {
		t.Errorf("%q", out)
	}
}

func TestVolumesAreFilledOnceTheRootStands(t *testing.T) {
	r := newRig(t)
	data := r.layout.VolumeData("filled")
	c := r.container("cat /etc/passwd | head -1", mounts(engine.Mount{Type: engine.MountVolume, Source: "filled", Target: "/etc"}))
	_, out := r.run(c, func(l *Launch) {
		l.CopyUp = func(root string) error {
			if err := os.MkdirAll(data, 0o755); err != nil {
				return err
			}
			return exec.Command("cp", "-a", root+"/etc/.", data).Run()
		}
	})
	if out != "root:x:0:0:root:/root:/bin/sh\n" {
		t.Errorf("%q", out)
	}
}

func TestTheUpperLivesThroughRestartsAndVolatileOnesTwo(t *testing.T) {
	r := newRig(t)
	for _, auto := range []bool{false, true} {
		c := r.container("cat /mark 2>&-; echo been here >/mark", func(c *engine.Container) { c.AutoRemove = auto })
		r.run(c)
		if _, out := r.run(c); out != "been here\n" {
			t.Errorf("auto remove %v: %q", auto, out)
		}
	}
}

// What is mounted in a shared bind on the host appears in the container, which
// needs the source opened where it is.
func TestASharedBindPropagatesBothWays(t *testing.T) {
	r := newRig(t)
	host := t.TempDir()
	if err := unix.Mount(host, host, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(host, unix.MNT_DETACH)
	if err := unix.Mount("", host, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	ns, err := os.Open("/proc/self/ns/mnt")
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	os.Mkdir(host+"/m", 0o755)
	c := r.container("while ! test -e /b/m/flag; do sleep 0.01; done; mount -t tmpfs none /b/m && touch /b/m/inside; sleep 1000", func(c *engine.Container) {
		c.Spec.Security.CapAdd = []string{"SYS_ADMIN"}
		c.Spec.Mounts = []engine.Mount{{Type: engine.MountBind, Source: host, Target: "/b", Propagation: "rshared"}}
	})
	l := r.launch(c)
	l.HostMounts = ns
	p, err := Start(context.Background(), l)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { p.KillAll(); r.wait(p); p.Destroy() }()
	if err := unix.Mount("none", host+"/m", "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(host+"/m/flag", nil, 0o644)
	eventually(t, "the container's mount is seen on the host", func() bool {
		_, err := os.Stat(host + "/m/inside")
		return err == nil
	})
	unix.Unmount(host+"/m", unix.MNT_DETACH)
	unix.Unmount(host+"/m", unix.MNT_DETACH)
}

func TestContainersShareNamespaces(t *testing.T) {
	r := newRig(t)
	c, p := r.idle(func(c *engine.Container) { c.Spec.Security.IPC = "shareable" })
	eventually(t, "it sleeps", func() bool {
		_, out, _ := r.exec(call(c, "ps"), "")
		return strings.Contains(out, " sleep 1000\n")
	})
	if code, _, errs := r.exec(call(c, "sh", "-c", "echo shared >/dev/shm/f"), ""); code != 0 {
		t.Fatal(errs)
	}
	code, out := r.run(r.container("cat /dev/shm/f; ps | grep -c '[s]leep 1000'", func(d *engine.Container) {
		d.Spec.Security.IPC, d.Spec.Security.PID = "container:"+c.ID, "container:"+c.ID
	}), func(l *Launch) { l.Joins = map[string]int{c.ID: p.PID} })
	if code != 0 || !strings.HasPrefix(out, "shared\n") || strings.HasSuffix(out, "\n0\n") {
		t.Errorf("code %d: %q", code, out)
	}
	if _, _, err := r.try(r.container("true", func(d *engine.Container) { d.Spec.Security.PID = "container:nosuch" })); err == nil {
		t.Error("joined a container that does not run")
	}
}

func TestManyLayersAndNone(t *testing.T) {
	r := newRig(t)
	ids := []string{"base", "files"}
	for i := range 120 {
		id := fmt.Sprintf("layer-with-quite-a-long-name-so-that-a-page-would-not-do-%03d", i)
		os.MkdirAll(r.layout.LayerFS(id), 0o755)
		os.WriteFile(r.layout.LayerFS(id)+"/top", []byte(id), 0o644)
		ids = append(ids, id)
	}
	_, out := r.run(r.container("cat /top", func(c *engine.Container) { c.Layers = ids }))
	if out != ids[121] {
		t.Errorf("%q", out)
	}
	if _, _, err := r.try(r.container("true", func(c *engine.Container) { c.Layers = nil })); ExitCode(err) != 127 {
		t.Errorf("an empty image: %v", err)
	}
	old := stack{lower: layerDirs(r.layout, ids[:60]), upper: t.TempDir(), work: t.TempDir()}
	at := t.TempDir()
	if err := old.mountOld(at); err != nil {
		t.Errorf("mount(2): %v", err)
	}
	detach(at)
}

func TestLimitsArePutInPlace(t *testing.T) {
	r := newRig(t)
	c := r.container("sleep 1000", func(c *engine.Container) {
		c.Spec.Resources = engine.Resources{Memory: 64 << 20, NanoCPUs: 5e8, PidsLimit: 33, CPUShares: 512, MemorySwap: -1, OOMScoreAdj: 500, CpusetCpus: "0"}
	})
	p, err := Start(context.Background(), r.launch(c))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { p.KillAll(); r.wait(p); p.Destroy() }()
	f := bundle.ReadFacts()
	s, err := p.Stats()
	if err != nil {
		t.Fatal(err)
	}
	if f.Controllers["memory"] && s.MemoryLimit != 64<<20 || f.Controllers["pids"] && s.PidsLimit != 33 {
		t.Errorf("%+v", s)
	}
	if !f.Controllers["memory"] && len(p.Warnings) == 0 {
		t.Error("a limit was dropped without a word")
	}
	score, _ := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", p.PID))
	if string(score) != "500\n" {
		t.Errorf("oom_score_adj %q", score)
	}
}
