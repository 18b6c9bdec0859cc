package render

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/project"
	"github.com/davit-run/davit/reconcile/apply"
)

// took is how long a summary says that it all took.
var took = regexp.MustCompile(`in \d+\.\ds`)

var now = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

func snapshot() engine.Snapshot {
	return engine.Snapshot{
		Container: engine.Container{
			ID: strings.Repeat("ab", 32), Name: "shop-web-1", Created: now.Add(-2 * time.Hour),
			Spec: engine.Spec{
				Image: "app:1", Command: []string{"serve", "--a", "very long", "command line"}, Expose: []string{"9000", "80/tcp"},
				Labels:    map[string]string{"com.docker.compose.project": "shop", "com.docker.compose.service": "web"},
				Endpoints: []engine.EndpointSpec{{Network: "shop_default"}},
			},
			ImageConfig: engine.ImageConfig{Entrypoint: []string{"/entry.sh"}},
		},
		State: engine.State{
			Status: engine.Running, StartedAt: now.Add(-5 * time.Minute), Health: &engine.Health{Status: "healthy"},
			Ports: []engine.Bound{{HostPort: 8080, ContainerPort: 80, Protocol: "tcp"}},
		},
	}
}

func TestPsTable(t *testing.T) {
	table := Table{Columns: ContainerColumns, Heads: ContainerHeads, Rows: []map[string]any{Container(snapshot(), false, now)}}
	for format, want := range map[string]string{
		"": "NAME         IMAGE     COMMAND                  SERVICE   CREATED       STATUS                   PORTS\n" +
			"shop-web-1   app:1     \"/entry.sh serve --a…\"   web       2 hours ago   Up 5 minutes (healthy)   0.0.0.0:8080->80/tcp, 9000/tcp\n",
		`table {{.Name}}\t{{.ID}}`:                                 "NAME         CONTAINER ID\nshop-web-1   abababababab\n",
		"{{.Name}} {{.State}} {{upper .Service}} {{json .Health}}": "shop-web-1 running WEB \"healthy\"\n",
	} {
		var b bytes.Buffer
		if err := table.Print(&b, format); err != nil || b.String() != want {
			t.Errorf("%q: %v\n%s\nwant\n%s", format, err, b.String(), want)
		}
	}
	if err := table.Print(&bytes.Buffer{}, "{{.Nope}}"); err == nil {
		t.Error("an unknown key was taken")
	}
	if err := table.Print(&bytes.Buffer{}, "{{.Name"); err == nil {
		t.Error("half a template was taken")
	}
}

// TestPsJSON holds the keys of docker compose's ps --format json, one object a
// line.
func TestPsJSON(t *testing.T) {
	var b bytes.Buffer
	row := Container(snapshot(), true, now)
	if err := (Table{Rows: []map[string]any{row, row}}).Print(&b, "json"); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(b.String(), "\n"); n != 2 {
		t.Errorf("%d lines", n)
	}
	for _, key := range strings.Fields("Command CreatedAt Engine ExitCode Health ID Image Labels LocalVolumes Mounts Name Names Networks Ports Project Publishers RunningFor Service Size State Status") {
		if _, ok := row[key]; !ok {
			t.Errorf("there is no %s", key)
		}
	}
	want := `"Publishers":[{"URL":"0.0.0.0","TargetPort":80,"PublishedPort":8080,"Protocol":"tcp"},{"URL":"","TargetPort":9000,"PublishedPort":0,"Protocol":"tcp"}]`
	if !strings.Contains(b.String(), want) || !strings.Contains(b.String(), `"ID":"`+strings.Repeat("ab", 32)+`"`) {
		t.Errorf("%s", b.String())
	}
	b.Reset()
	ls := Table{Array: true, Columns: []Column{{"NAME", "Name"}, {"STATUS", "Status"}, {"CONFIG FILES", "ConfigFiles"}}}
	ls.Rows = []map[string]any{{"ConfigFiles": "/a<b", "Name": "shop", "Status": "running(2)"}}
	if err := ls.Print(&b, "json"); err != nil || b.String() != `[{"Name":"shop","Status":"running(2)","ConfigFiles":"/a<b"}]`+"\n" {
		t.Errorf("ls: %s %v", b.String(), err)
	}
	b.Reset()
	if err := (Table{Array: true}).Print(&b, "json"); err != nil || b.String() != "[]\n" {
		t.Errorf("no rows: %q %v", b.String(), err)
	}
}

func TestStatusWords(t *testing.T) {
	up, done := now.Add(-3*time.Hour), now.Add(-10*time.Second)
	for want, s := range map[string]engine.State{
		"Up 3 hours":                    {Status: engine.Running, StartedAt: up},
		"Up 3 hours (health: starting)": {Status: engine.Running, StartedAt: up, Health: &engine.Health{Status: "starting"}},
		"Up 3 hours (unhealthy)":        {Status: engine.Running, StartedAt: up, Health: &engine.Health{Status: "unhealthy"}},
		"Up 3 hours (Paused)":           {Status: engine.Paused, StartedAt: up},
		"Exited (137) 10 seconds ago":   {Status: engine.Exited, ExitCode: 137, FinishedAt: done},
		"Restarting (1) 10 seconds ago": {Status: engine.Restarting, ExitCode: 1, FinishedAt: done},
		"Created":                       {Status: engine.Created},
		"Dead":                          {Status: engine.Dead},
	} {
		if got := Status(s, now); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestPortsOfNeighboursAreARange(t *testing.T) {
	s := snapshot()
	s.Spec.Expose = []string{"7000", "7001"}
	s.State.Ports = []engine.Bound{
		{HostPort: 8001, ContainerPort: 81, Protocol: "tcp"}, {HostPort: 8000, ContainerPort: 80, Protocol: "tcp"},
		{HostIP: "::1", HostPort: 53, ContainerPort: 53, Protocol: "udp"},
	}
	want := "[::1]:53->53/udp, 0.0.0.0:8000-8001->80-81/tcp, 7000-7001/tcp"
	if got := Ports(s); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	s.State.Status = engine.Exited
	if got := Ports(s); got != "" {
		t.Errorf("a stopped container shows %s", got)
	}
}

func TestMistakes(t *testing.T) {
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	one := &project.Error{File: filepath.Join(wd, "compose.yaml"), Line: 4, Key: "services.web.restart", What: `"allways" is not a restart policy`, Fix: "use one of: no, always"}
	two := &project.Error{File: "/elsewhere/x.yaml", What: "cannot be read"}
	var b bytes.Buffer
	Mistake(&b, errors.Join(project.Errors{one, two}, errors.New("and more")))
	want := "davit: compose.yaml:4: services.web.restart: \"allways\" is not a restart policy\n  use one of: no, always\n" +
		"davit: /elsewhere/x.yaml: cannot be read\ndavit: and more\n"
	if b.String() != want {
		t.Errorf("%s\nwant\n%s", b.String(), want)
	}
	b.Reset()
	Mistake(&b, fmt.Errorf("load: %w", one))
	if !strings.HasPrefix(b.String(), "davit: load: ") {
		t.Errorf("what wraps a mistake is lost: %s", b.String())
	}
	b.Reset()
	MistakeJSON(&b, errors.New("it's <bad>"))
	if want := `{"error":true,"message":"it's <bad>"}` + "\n"; b.String() != want {
		t.Errorf("%s", b.String())
	}
}

func TestProgressForScripts(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for mode, want := range map[string]string{
		Plain: " Container web-1 Creating\n Container web-1 Created\n Container db-1 Error boom\n[+] up 2/2, 1 failed in 0.0s\n",
		Auto:  " Container web-1 Creating\n Container web-1 Created\n Container db-1 Error boom\n[+] up 2/2, 1 failed in 0.0s\n",
		JSON: `{"id":"Container web-1","status":"Working","text":"Creating"}` + "\n" + `{"id":"Container web-1","status":"Done","text":"Created"}` + "\n" +
			`{"error":true,"id":"Container db-1","status":"Error","text":"Error","details":"boom\nmore"}` + "\n",
		Quiet: "",
	} {
		p, err := NewProgress(mode, "up", f, false)
		if err != nil {
			t.Fatal(err)
		}
		p.Report(apply.Event{Kind: "Container", Name: "web-1", Word: "Creating"})
		p.Report(apply.Event{Kind: "Container", Name: "web-1", Word: "Created", Done: true})
		p.Report(apply.Event{Kind: "Container", Name: "db-1", Word: "Error", Done: true, Err: errors.New("boom\nmore")})
		p.Close()
		if got := took.ReplaceAllString(rewound(t, f), "in 0.0s"); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", mode, got, want)
		}
	}
	if _, err := NewProgress("loud", "up", f, false); err == nil {
		t.Error("an unknown mode was taken")
	}
}

// On a terminal the last frame says how everything ended.
func TestProgressOnATerminal(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := NewProgress(TTY, "up", f, false)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	p.Report(apply.Event{Time: at, Kind: "Container", Name: "web-1", Word: "Creating"})
	p.Report(apply.Event{Time: at, Kind: "Container", Name: "database-1", Word: "Starting"})
	p.Report(apply.Event{Time: at.Add(1500 * time.Millisecond), Kind: "Container", Name: "web-1", Word: "Created", Done: true})
	p.Report(apply.Event{Time: at, Kind: "Container", Name: "database-1", Word: "Error", Done: true, Err: errors.New("boom")})
	p.Close()
	got := rewound(t, f)
	last := got[strings.LastIndex(got, "[+] up"):]
	want := "[+] up 2/2\x1b[K\n ✔ Container web-1 Created       1.5s\x1b[K\n ✘ Container database-1 Error    0.0s\x1b[K\n\x1b[J"
	if last != want {
		t.Errorf("%q\nwant\n%q", last, want)
	}
}

func TestFitKeepsWhatIsNotFinished(t *testing.T) {
	rows := []*row{{label: "a", finished: true}, {label: "b"}, {label: "c", finished: true}, {label: "d"}}
	got := ""
	for _, r := range fit(rows, 2) {
		got += r.label
	}
	if got != "bd" {
		t.Errorf("got %s", got)
	}
}

func rewound(t *testing.T, f *os.File) string {
	t.Helper()
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(0); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Seek(0, 0); err != nil {
		t.Fatal(err)
	}
	return string(b)
}
