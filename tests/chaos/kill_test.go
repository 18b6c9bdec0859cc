package chaos

import (
	"fmt"
	"hash/fnv"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/davit-run/davit/tests/kernel"
)

// victims are who is killed under which verb. A keeper or anchor that the verb
// itself starts is reached by Anyone.
var victims = map[string][]Victim{
	"up":       {Command, Anyone},
	"down":     {Command, Keeper, Anchor},
	"stop":     {Command, Keeper, Anchor},
	"start":    {Command, Anyone},
	"run":      {Command, Keeper},
	"exec":     {Command, Anyone},
	"load":     {Command},
	"recreate": {Command, Keeper},
}

// TestKillPoints kills at 60 points, with DAVIT_LONG at 780; five of six come
// before the command is over. DAVIT_POINT runs one alone, as a failure named it.
func TestKillPoints(t *testing.T) {
	kernel.NeedRoot(t)
	if _, err := exec.LookPath("strace"); err != nil {
		t.Skip("strace is not installed")
	}
	each := kernel.Often(60, 780)
	if s := os.Getenv("DAVIT_POINTS"); s != "" {
		each, _ = strconv.Atoi(s)
	}
	jobs := make(chan job)
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() { work(t, fmt.Sprintf("chaos%d", i), jobs) })
	}
	n := 0
	for _, v := range victims {
		n += len(v)
	}
	each = max(each, n)
	only := os.Getenv("DAVIT_POINT")
	for _, v := range Verbs {
		for _, who := range victims[v.Name] {
			if !strings.HasPrefix(only+"/", v.Name+"/"+string(who)+"/") && only != "" {
				continue
			}
			jobs <- job{v, who, (each + n - 1) / n, only}
		}
	}
	close(jobs)
	wg.Wait()
}

type job struct {
	verb   Verb
	victim Victim
	points int
	only   string
}

func work(t *testing.T, project string, jobs <-chan job) {
	w, err := NewWorld(project, t.TempDir())
	if err != nil {
		t.Error(err)
		for range jobs {
		}
		return
	}
	defer func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}()
	for j := range jobs {
		j.run(t, w)
	}
}

func (j job) run(t *testing.T, w *World) {
	points, err := j.find(w)
	for range 2 { // it was over before strace had every thread, or strace hung
		if err == nil && len(points) > 0 {
			break
		}
		if err != nil {
			t.Logf("%s/%s: first trace: %v", j.verb.Name, j.victim, err)
			if rerr := w.renew(); rerr != nil {
				t.Error(rerr)
				return
			}
		}
		points, err = j.find(w)
	}
	if err == nil && len(points) == 0 {
		err = fmt.Errorf("the trace shows no calls")
	}
	if err != nil {
		t.Errorf("%s/%s: %v", j.verb.Name, j.victim, err)
		return
	}
	hits, good := 0, 0
	for i, p := range points {
		hit, err := w.Try(p, i%2 == 0)
		if err != nil {
			// The same number is not the same moment twice: other threads ran
			// before it, strace was slow. What fails twice is a bug that can be
			// looked for; what fails once is told, and stays a suspicion.
			t.Logf("first try: %v", err)
			hit, err = w.Try(p, i%2 == 0)
		}
		if hit {
			hits++
		}
		if err != nil {
			t.Errorf("%v", err)
		} else {
			good++
		}
	}
	t.Logf("%s, %s killed: %d of %d points made good, %d hit", j.verb.Name, j.victim, good, len(points), hits)
}

// find traces the verb once and chooses the points.
func (j job) find(w *World) ([]Point, error) {
	if f := strings.Split(j.only, "/"); len(f) == 4 {
		n, err := strconv.Atoi(f[3])
		return []Point{{j.verb, j.victim, f[2], n}}, err
	}
	file := filepath.Join(w.Dir, "profile")
	if err := w.Trace(j.verb, j.victim, file); err != nil {
		return nil, err
	}
	if _, err := w.Davit("down", "-v"); err != nil {
		return nil, err
	}
	if left, err := w.Residue(); err != nil || len(left) > 0 {
		return nil, fmt.Errorf("residue before any kill: %v %v", left, err)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := fnv.New64()
	_, _ = h.Write([]byte(j.verb.Name + string(j.victim)))
	return Points(f, j.verb, j.victim, j.points, h.Sum64())
}
