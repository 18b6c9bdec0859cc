package cli

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/reconcile"
)

func TestScales(t *testing.T) {
	got, err := scales([]string{"web=3", "db=0"})
	if err != nil || !maps.Equal(got, map[string]int{"web": 3, "db": 0}) {
		t.Errorf("%v %v", got, err)
	}
	for _, bad := range []string{"web", "web=", "web=x", "web=-1"} {
		if _, err := scales([]string{bad}); err == nil {
			t.Errorf("%s was taken", bad)
		}
	}
}

func TestMoment(t *testing.T) {
	now := time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)
	for in, want := range map[string]time.Time{
		"":                          {},
		"42m":                       now.Add(-42 * time.Minute),
		"1h30m":                     now.Add(-90 * time.Minute),
		"2026-05-04T11:00:00Z":      now.Add(-time.Hour),
		"2026-05-04T13:00:00+02:00": now.Add(-time.Hour),
		"1777890000":                time.Unix(1777890000, 0),
	} {
		if got, err := moment(in, now); err != nil || !got.Equal(want) {
			t.Errorf("moment(%q) = %v, %v; want %v", in, got, err, want)
		}
	}
	if _, err := moment("yesterday", now); err == nil {
		t.Error("yesterday was taken")
	}
}

func TestDetachKeys(t *testing.T) {
	for in, want := range map[string][]byte{"": {16, 17}, "ctrl-a,d": {1, 'd'}, "ctrl-@": {0}, "x": {'x'}} {
		if got, err := detachKeys(in); err != nil || !bytes.Equal(got, want) {
			t.Errorf("detachKeys(%q) = %v, %v; want %v", in, got, err, want)
		}
	}
	for _, bad := range []string{"ctrl-", "ctrl-!", "ctrl-aa", "ab"} {
		if _, err := detachKeys(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestPublishFlag(t *testing.T) {
	for in, want := range map[string]engine.Port{
		"80":                {ContainerPort: 80, Protocol: "tcp"},
		"8080:80":           {HostPort: 8080, ContainerPort: 80, Protocol: "tcp"},
		"53:53/udp":         {HostPort: 53, ContainerPort: 53, Protocol: "udp"},
		"127.0.0.1:8080:80": {HostIP: "127.0.0.1", HostPort: 8080, ContainerPort: 80, Protocol: "tcp"},
		"127.0.0.1::80":     {HostIP: "127.0.0.1", ContainerPort: 80, Protocol: "tcp"},
		"[::1]:8080:80/tcp": {HostIP: "::1", HostPort: 8080, ContainerPort: 80, Protocol: "tcp"},
	} {
		if got, err := publishFlag(in); err != nil || got != want {
			t.Errorf("publishFlag(%q) = %+v, %v", in, got, err)
		}
	}
	for _, bad := range []string{"", "x", "0", "70000", "80:x", "x:80", "80:80/icmp"} {
		if got, err := publishFlag(bad); err == nil {
			t.Errorf("%q was taken as %+v", bad, got)
		}
	}
}

func TestVolumeFlag(t *testing.T) {
	for in, want := range map[string]engine.Mount{
		"/data":           {Type: engine.MountVolume, Target: "/data"},
		"vol:/data":       {Type: engine.MountVolume, Source: "vol", Target: "/data"},
		"/src:/data:ro":   {Type: engine.MountBind, Source: "/src", Target: "/data", ReadOnly: true, CreateHostPath: true},
		"/src:/data:ro,Z": {Type: engine.MountBind, Source: "/src", Target: "/data", ReadOnly: true, CreateHostPath: true, SELinux: "Z"},
	} {
		if got, err := volumeFlag(in); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("volumeFlag(%q) = %+v, %v", in, got, err)
		}
	}
	for _, bad := range []string{"", "a:b", "a:/b:xx", "a:/b:ro:c"} {
		if _, err := volumeFlag(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestSudoSaysWhatToType(t *testing.T) {
	got := sudo([]string{"run", "web", "sh", "-c", "echo it's"})
	if want := ` run web sh -c 'echo it'\''s'`; !strings.HasPrefix(got, "sudo ") || !strings.HasSuffix(got, want) {
		t.Errorf("%s", got)
	}
}

func TestFlagsThatContradict(t *testing.T) {
	for name, o := range map[string]upOptions{
		"detached and aborting":     {detach: true, abortOnExit: true},
		"detached and a status":     {detach: true, exitCodeFrom: "web"},
		"waiting and aborting":      {wait: true, abortOnFailure: true},
		"detached and attached":     {detach: true, attach: []string{"web"}},
		"two ways of recreating":    {recreateDeps: true, createOptions: createOptions{forceRecreate: true}},
		"recreating and not":        {createOptions: createOptions{forceRecreate: true, noRecreate: true}},
		"building and not":          {createOptions: createOptions{build: true, noBuild: true}},
		"two ways of attaching":     {attachDeps: true, attach: []string{"web"}},
		"an unknown policy to pull": {createOptions: createOptions{pull: "sometimes"}},
	} {
		if o.pull == "" {
			o.pull = "policy"
		}
		if err := o.settle(); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	o := upOptions{wait: true, createOptions: createOptions{pull: "policy"}}
	if err := o.settle(); err != nil || !o.detach {
		t.Errorf("--wait: %v, detached %t", err, o.detach)
	}
}

// A one-off is the service's definition without its ports and names, and the
// definition itself stays as it was.
func TestDraftOfAOneOff(t *testing.T) {
	base := reconcile.Container{Service: "web", Hash: "h", Spec: engine.Spec{
		Image: "app", Command: []string{"serve"}, Env: map[string]string{"A": "1"},
		Ports: []engine.Port{{ContainerPort: 80}}, Restart: engine.RestartPolicy{Mode: "always"},
		Endpoints: []engine.EndpointSpec{{Network: "n", Aliases: []string{"web"}, IPv4: "10.0.0.2"}},
	}}
	o := runOptions{env: []string{"B=2"}, publish: []string{"81:80"}, rm: true, user: "me", labels: []string{"x=y"}}
	d, err := o.draft("shop", base, []string{"sh"})
	if err != nil {
		t.Fatal(err)
	}
	s := d.Spec
	if !strings.HasPrefix(d.Name, "shop-web-run-") || len(d.Name) != len("shop-web-run-")+12 || !d.AutoRemove {
		t.Errorf("%+v", d)
	}
	got := fmt.Sprintf("%v %v %v %q %v %q %s", s.Command, s.Env, s.Ports, s.Restart.Mode, s.Endpoints[0].Aliases, s.Endpoints[0].IPv4, s.User)
	if want := `[sh] map[A:1 B:2] [{ 81 0 80 tcp}] "" [] "" me`; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	if s.Labels[reconcile.LabelOneOff] != "True" || s.Labels["x"] != "y" || len(s.Labels[reconcile.LabelSlug]) != 12 {
		t.Errorf("labels %v", s.Labels)
	}
	if len(base.Spec.Env) != 1 || base.Spec.Endpoints[0].IPv4 == "" || base.Spec.Labels != nil {
		t.Errorf("the definition changed: %+v", base.Spec)
	}
}

func TestVersionForms(t *testing.T) {
	for want, o := range map[string]versionOptions{
		"5.7.0\n": {short: true},
		`{"davit":"dev","version":"v5.7.0"}` + "\n":  {format: "json"},
		"davit version dev (docker compose 5.7.0)\n": {},
	} {
		var b bytes.Buffer
		if err := runVersion(&b, o); err != nil || b.String() != want {
			t.Errorf("%+v: %q, %v", o, b.String(), err)
		}
	}
	if err := runVersion(&bytes.Buffer{}, versionOptions{format: "xml"}); err == nil {
		t.Error("xml was taken")
	}
}

func TestSplitName(t *testing.T) {
	for in, want := range map[string][2]string{
		"docker.io/library/redis:7":     {"redis", "7"},
		"docker.io/me/app:1":            {"me/app", "1"},
		"localhost:5000/app":            {"localhost:5000/app", "latest"},
		"localhost:5000/app:2@sha256:1": {"localhost:5000/app", "2"},
	} {
		repository, tag := splitName(in)
		if got := [2]string{repository, tag}; got != want {
			t.Errorf("splitName(%q) = %v", in, got)
		}
	}
}

func TestProjectNames(t *testing.T) {
	for name, good := range map[string]bool{"shop": true, "a_b-1": true, "Foo": false, "a.b": false, "-a": false, "_a": false} {
		if err := checkName(name); (err == nil) != good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDetachKeysAmongWhatIsTyped(t *testing.T) {
	for name, c := range map[string]struct {
		typed []string
		on    string
		over  bool
	}{
		"nothing of them":                {[]string{"ls\n"}, "ls\n", false},
		"what came before is passed on":  {[]string{"ls\n\x10\x11rest"}, "ls\n", true},
		"in two pieces":                  {[]string{"a\x10", "\x11"}, "a", true},
		"only the first is passed on":    {[]string{"\x10", "x"}, "\x10x", false},
		"the first twice, then the last": {[]string{"\x10\x10\x11"}, "\x10", true},
	} {
		k := keySequence{keys: []byte{16, 17}}
		var on []byte
		over := false
		for _, piece := range c.typed {
			var more []byte
			more, over = k.take([]byte(piece))
			on = append(on, more...)
		}
		if string(on) != c.on || over != c.over {
			t.Errorf("%s: %q %v, want %q %v", name, on, over, c.on, c.over)
		}
	}
}
