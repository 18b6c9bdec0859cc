package watch

import (
	"path"
	"path/filepath"

	"github.com/davit-run/davit/project"
)

// A File is one path to bring to a service's containers.
type File struct {
	From string // of the host
	To   string // of the container
	Gone bool   // it is to be removed there
	Dir  bool
	Mode uint32 // of a directory that is to be there
}

// A Task is what one batch of changes means for one service. Rebuild stands
// alone: the new image has the files.
type Task struct {
	Service string
	Rebuild bool
	Files   []File
	Exec    []project.Hook // run in the container once the files are there
	Restart bool           // after that
	Changes int            // how many paths have changed
}

// Decide says what the changes found below each rule's path mean, one task for
// each service, in the order of the rules.
func Decide(rules []Rule, found map[int][]Change) []Task {
	var out []Task
	at := map[string]int{}
	for i, r := range rules {
		changes := found[i]
		if len(changes) == 0 {
			continue
		}
		k, ok := at[r.Service]
		if !ok {
			k = len(out)
			at[r.Service] = k
			out = append(out, Task{Service: r.Service})
		}
		out[k].add(r, changes)
	}
	return out
}

func (t *Task) add(r Rule, changes []Change) {
	t.Changes += len(changes)
	switch r.Action {
	case Rebuild:
		t.Rebuild, t.Restart = true, false
		t.Files, t.Exec = nil, nil
		return
	case Restart, SyncRestart:
		t.Restart = true
	case SyncExec:
		t.Exec = append(t.Exec, r.Exec)
	}
	if t.Rebuild {
		t.Restart, t.Exec = false, nil
		return
	}
	if r.Action != Restart {
		for _, c := range changes {
			t.Files = append(t.Files, fileOf(r, c))
		}
	}
}

func fileOf(r Rule, c Change) File {
	return File{
		From: filepath.Join(r.Path, c.Path), To: path.Join("/", r.Target, filepath.ToSlash(c.Path)),
		Gone: c.Gone, Dir: c.Dir, Mode: c.Mode,
	}
}
