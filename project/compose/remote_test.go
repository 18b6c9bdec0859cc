package compose

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/davit-run/davit/project"
)

// fetched is a directory with files that Fetch has "brought", beside a
// project's.
func fetched(t *testing.T, local, remote map[string]string) (Options, string) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range []struct {
		in    string
		files map[string]string
	}{{"here", local}, {"there", remote}} {
		for name, content := range set.files {
			path := filepath.Join(dir, set.in, name)
			if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "here"), 0o755); err != nil {
		t.Fatal(err)
	}
	fetch := func(_ context.Context, address string) (Fetched, error) {
		_, path, _ := strings.Cut(address, "#")
		root := filepath.Join(dir, "there")
		return Fetched{File: filepath.Join(root, path), Root: root}, nil
	}
	return Options{WorkingDir: filepath.Join(dir, "here"), Environ: []string{"HOME=/home/ann", "SECRET=s3cret"}, Fetch: fetch}, dir
}

func TestRemoteFiles(t *testing.T) {
	remote := map[string]string{
		"compose.yaml":     "name: far\nservices:\n  web: {image: web, env_file: vars, volumes: ['./data:/data', '/srv:/srv']}\n",
		"vars":             "FROM=there\n",
		"base/common.yaml": "services:\n  base: {image: base, env_file: [own], extends: {file: ../more.yaml, service: top}}\n",
		"base/own":         "OWN=1\n",
		"more.yaml":        "services:\n  top: {labels: {from: there}}\n",
	}
	for name, c := range map[string]struct {
		local map[string]string
		files []string
	}{
		"named":    {files: []string{"oci://reg/app"}},
		"included": {local: map[string]string{"compose.yaml": "include: ['oci://reg/app']\n"}},
		"overridden": {local: map[string]string{"over.yaml": "services: {web: {labels: {over: 'yes'}, env_file: [/dev/null]}}\n"},
			files: []string{"oci://reg/app", "over.yaml"}},
	} {
		o, dir := fetched(t, c.local, remote)
		o.Files = c.files
		p, warnings, err := Load(t.Context(), o)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		web := p.Services["web"]
		if got := web.Environment["FROM"]; got == nil || *got != "there" {
			t.Errorf("%s: environment %v", name, web.Environment)
		}
		if want := filepath.Join(dir, "there/data"); web.Volumes[0].Source != want {
			t.Errorf("%s: mounts %s, not %s", name, web.Volumes[0].Source, want)
		}
		if len(warnings) != 1 || !strings.Contains(warnings[0].String(), "oci://reg/app:3") || !strings.Contains(warnings[0].Text, "/srv of this host") {
			t.Errorf("%s: warnings %v", name, warnings)
		}
	}
	o, _ := fetched(t, map[string]string{"compose.yaml": "services: {web: {extends: {file: 'https://x/y.git#base/common.yaml', service: base}}}\n"}, remote)
	p, _, err := Load(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if web := p.Services["web"]; web.Image != "base" || web.Labels["from"] != "there" || *web.Environment["OWN"] != "1" {
		t.Errorf("extended: %+v", web)
	}
}

// TestRemoteFilesStayAtHome has remote files reach for what is this host's.
func TestRemoteFilesStayAtHome(t *testing.T) {
	const web = "services:\n  web:\n    image: x\n    "
	for name, c := range map[string]struct{ remote, says string }{
		"env_file":              {web + "env_file: /etc/shadow", `oci://reg/app:4:5: services.web.env_file.0: a remote compose file may not read /etc/shadow`},
		"env_file upwards":      {web + "env_file: [{path: ../here/secret, required: false}]", "may not read ../here/secret"},
		"env_file at home":      {web + "env_file: ~/.netrc", "may not read ~/.netrc"},
		"env_file merged":       {"x-a: &a {env_file: /etc/shadow}\nservices:\n  web: {<<: *a, image: x}", "may not read /etc/shadow"},
		"env_file by variable":  {web + "env_file: ${NONE:-/etc}/shadow", "may not read /etc/shadow"},
		"env_file of a profile": {web + "profiles: [x]\n    env_file: /etc/shadow", "may not read /etc/shadow"},
		"label_file":            {web + "label_file: /etc/hostname", "may not read /etc/hostname"},
		"extends":               {web + "extends: {file: ../here/compose.yaml, service: x}", "may not read"},
		"include":               {"include: [/etc/passwd]\n" + web, "may not read /etc/passwd"},
		"include merged":        {"x-a: &a {include: [/etc/passwd]}\n<<: *a\n" + web, "may not read /etc/passwd"},
		"include's directory":   {"include: [{path: compose2.yaml, project_directory: /etc}]\n" + web, "may not read /etc"},
		"include's variables":   {"include: [{path: compose2.yaml, env_file: /etc/environment}]\n" + web, "may not read /etc/environment"},
		"secret":                {web + "secrets: [s]\nsecrets: {s: {file: /etc/shadow}}", "may not read /etc/shadow"},
		"config":                {web + "configs: [s]\nconfigs: {s: {file: ../../etc/passwd}}", "may not read ../../etc/passwd"},
		"build":                 {web + "build: /root", "may not read /root"},
		"dockerfile":            {web + "build: {context: ., dockerfile: ../../root/x}", "may not read"},
		"context":               {web + "build: {context: ., additional_contexts: {home: ~/}}", "may not read ~/"},
		"ssh":                   {web + "build: {context: ., ssh: ['default=~/.ssh/id_rsa']}", "may not read ~/.ssh/id_rsa"},
		"cache":                 {web + "build: {context: ., cache_to: ['type=local,dest=/etc/cron.d']}", "may not read /etc/cron.d"},
		"watch":                 {web + "develop: {watch: [{path: /etc, action: sync, target: /x}]}", "may not read /etc"},
		"mount upwards":         {web + "volumes: ['../../x:/x']", "may not lead out of its directory with ../../x"},
		"hook":                  {web + "pre_start: [{command: x, image: x, env_file: /etc/shadow}]", "may not read /etc/shadow"},
		"provider":              {"services:\n  web: {provider: {type: ./run}}", "may not run ./run"},
	} {
		o, _ := fetched(t, map[string]string{"secret": "A=1\n", "compose.yaml": "services: {x: {image: x}}"},
			map[string]string{"compose.yaml": c.remote + "\n", "compose2.yaml": "services: {y: {image: y}}\n"})
		o.Files = []string{"oci://reg/app"}
		_, _, err := Load(t.Context(), o)
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, err := Render(t.Context(), o, RenderOptions{Format: "yaml"}); err == nil {
			t.Errorf("%s: config prints it", name)
		}
	}
}

// TestRemoteAddressesAreWrittenOut keeps what variables hold from being sent
// away as part of a name.
func TestRemoteAddressesAreWrittenOut(t *testing.T) {
	for _, text := range []string{"include: ['oci://reg/${SECRET}']\n", "services: {web: {extends: {file: 'https://x/${SECRET}.git', service: web}}}\n"} {
		o, _ := fetched(t, map[string]string{"compose.yaml": text}, map[string]string{"compose.yaml": "services: {web: {image: x}}\n"})
		fetch := o.Fetch
		o.Fetch = func(ctx context.Context, address string) (Fetched, error) {
			t.Errorf("%s was fetched", address)
			return fetch(ctx, address)
		}
		var errs project.Errors
		if _, _, err := Load(t.Context(), o); !errors.As(err, &errs) || !strings.Contains(err.Error(), "may not have variables in it") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
