package runtime

import (
	"context"
	"runtime"
	"sort"
	"testing"
	"time"

	"github.com/opencontainers/runc/libcontainer/configs"
	libseccomp "github.com/opencontainers/runc/libcontainer/seccomp"

	"github.com/davit-run/davit/engine"
	"github.com/davit-run/davit/engine/bundle"
)

// BenchmarkStart times a container from its record to its running process, and
// apart from that its end; idle gaps in between, because back-to-back loops
// hide what the cgroups cost.
func BenchmarkStart(b *testing.B) {
	for name, tweak := range map[string]func(*engine.Container){
		"default":  func(*engine.Container) {},
		"no32bit":  func(c *engine.Container) { c.Spec.Security.NoCompat32 = true },
		"nofilter": func(c *engine.Container) { c.Spec.Security.Options = []string{"seccomp=unconfined"} },
	} {
		b.Run(name, func(b *testing.B) {
			r := newRig(b)
			var starts, ends []time.Duration
			for b.Loop() {
				time.Sleep(20 * time.Millisecond)
				c := r.container("", tweak, func(c *engine.Container) { c.Spec.Entrypoint = []string{"/bin/true"} })
				t0 := time.Now()
				p, err := Start(context.Background(), r.launch(c))
				if err != nil {
					b.Fatal(err)
				}
				starts = append(starts, time.Since(t0))
				r.wait(p)
				t1 := time.Now()
				if err := p.Destroy(); err != nil {
					b.Fatal(err)
				}
				ends = append(ends, time.Since(t1))
			}
			report(b, "start", starts)
			report(b, "destroy", ends)
		})
	}
}

func report(b *testing.B, what string, d []time.Duration) {
	sort.Slice(d, func(i, j int) bool { return d[i] < d[j] })
	b.ReportMetric(float64(d[0].Microseconds())/1000, "ms-least-"+what)
	b.ReportMetric(float64(d[len(d)/2].Microseconds())/1000, "ms-median-"+what)
}

// BenchmarkFilter times what libseccomp takes to compile and load a profile:
// the whole of it is paid at every start and every exec.
func BenchmarkFilter(b *testing.B) {
	for name, compat := range map[string]bool{"native": false, "with32bit": true} {
		b.Run(name, func(b *testing.B) {
			p, err := bundle.Seccomp(bundle.DefaultCaps(false), compat)
			if err != nil {
				b.Fatal(err)
			}
			var took []time.Duration
			for b.Loop() {
				took = append(took, filterOnce(b, p))
			}
			report(b, "filter", took)
		})
	}
}

// filterOnce loads a filter on a thread that ends with it.
func filterOnce(b *testing.B, p *configs.Seccomp) time.Duration {
	done := make(chan time.Duration)
	go func() {
		runtime.LockOSThread()
		t0 := time.Now()
		_, err := libseccomp.InitSeccomp(p)
		if err != nil {
			b.Error(err)
		}
		done <- time.Since(t0)
	}()
	return <-done
}

// BenchmarkExec times the whole of `davit-runtime exec … true`.
func BenchmarkExec(b *testing.B) {
	r := newRig(b)
	c, _ := r.idle()
	var took []time.Duration
	for b.Loop() {
		cmd, done := r.execCmd(call(c, "true"))
		t0 := time.Now()
		if err := cmd.Run(); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(t0))
		done()
	}
	report(b, "exec", took)
}

// BenchmarkMany times fifty containers started at once, as `up` starts them.
func BenchmarkMany(b *testing.B) {
	r := newRig(b)
	var took []time.Duration
	for b.Loop() {
		var running []*Process
		started := make(chan *Process)
		t0 := time.Now()
		for range 50 {
			c := r.container("sleep 1000")
			go func() {
				p, err := Start(context.Background(), r.launch(c))
				if err != nil {
					b.Error(err)
				}
				started <- p
			}()
		}
		for range 50 {
			running = append(running, <-started)
		}
		took = append(took, time.Since(t0))
		for _, p := range running {
			_ = p.KillAll()
			r.wait(p)
			_ = p.Destroy()
		}
	}
	report(b, "fifty", took)
}
