package journal

import (
	"fmt"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// A Report is what Verify found.
type Report struct {
	Generations int
	Records     int64    // sound ones
	Bytes       int64    // of output
	Unindexed   int64    // bytes of output that no record knows of; their order and time is a guess
	Problems    []string // what is wrong, file by file; none when the log is sound
}

func (r *Report) problem(format string, args ...any) {
	r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
}

// Verify checks a log against its index: headers and records by their
// checksums, that time and ends never fall, that the streams have the bytes that
// the index claims, and that no generation is missing. It changes nothing and
// may run while the log is written.
func Verify(dir string) (*Report, error) {
	root, err := os.OpenFile(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("verify log: %w", err)
	}
	defer root.Close()
	gens, _, err := generations(root)
	if err != nil {
		return nil, fmt.Errorf("verify log %s: %w", dir, err)
	}
	slices.Sort(gens)
	report := &Report{Generations: len(gens)}
	var before *generation
	for i, gen := range gens {
		if i > 0 && gens[i-1] != gen-1 {
			report.problem("generations %d to %d are missing", gens[i-1]+1, gen-1)
		}
		g, err := openGeneration(root, gen)
		if os.IsNotExist(err) {
			continue // rotated away meanwhile
		}
		if err != nil {
			report.problem("%v", err)
			continue
		}
		report.check(g, before)
		if before != nil {
			before.close()
		}
		before = g
	}
	if before != nil {
		before.close()
	}
	return report, nil
}

func (r *Report) check(g, before *generation) {
	if !g.sound {
		r.problem("%s: the header is damaged", indexName(g.gen))
	}
	last := r.records(g)
	sizes := g.sizes()
	for s, size := range sizes {
		r.Bytes += size
		switch {
		case size < last.ends[s]:
			r.problem("%s: has %d bytes, the index knows of %d", streamName(s, g.gen), size, last.ends[s])
		case size > last.ends[s]:
			r.Unindexed += size - last.ends[s]
		}
	}
	if before != nil && g.sound && before.sound && before.gen == g.gen-1 {
		if want := before.head.base + uint64(before.sizes().total()); g.head.base != want {
			r.problem("%s: %d bytes should lie before it, its header says %d", indexName(g.gen), want, g.head.base)
		}
	}
}

// records checks the records of one index and returns the last sound one.
func (r *Report) records(g *generation) record {
	last := record{time: g.head.created}
	n := g.count()
	for i := range n {
		rec, ok := g.record(i)
		if !ok {
			r.problem("%s: record %d is damaged", indexName(g.gen), i)
			continue
		}
		r.Records++
		if rec.time < last.time {
			r.problem("%s: record %d is older than the one before", indexName(g.gen), i)
		}
		for s := range rec.ends {
			if rec.ends[s] < last.ends[s] {
				r.problem("%s: record %d says that %s became shorter", indexName(g.gen), i, streamNames[s])
			}
		}
		last = rec
	}
	return last
}
