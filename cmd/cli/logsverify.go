package cli

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/davit-run/davit/logs/journal"
	"github.com/davit-run/davit/reconcile"
)

// verifyLogs checks the logs of containers, and those that they inherited from
// the containers whose place they took; it changes nothing.
func (s *session) verifyLogs(list []reconcile.ActualContainer) error {
	damaged := 0
	for _, a := range list {
		dir := s.engine.LogDir(s.name, a.ID)
		dirs, err := journal.Past(dir)
		if err != nil {
			return err
		}
		for i, d := range append(dirs, dir) {
			label := s.label(a.Name)
			if i < len(dirs) {
				label = fmt.Sprintf("%s, %d before", label, len(dirs)-i)
			}
			sound, err := s.verifyLog(label, d)
			if err != nil {
				return err
			}
			if !sound {
				damaged++
			}
		}
	}
	if damaged > 0 {
		return fmt.Errorf("%d logs are damaged; davit logs shows every line that can be read", damaged)
	}
	return nil
}

func (s *session) verifyLog(label, dir string) (sound bool, err error) {
	r, err := journal.Verify(dir)
	if errors.Is(err, fs.ErrNotExist) {
		fmt.Fprintf(s.out, "%s: no output yet\n", label)
		return true, nil
	}
	if err != nil {
		return false, err
	}
	verdict := "sound"
	if len(r.Problems) > 0 {
		verdict = "damaged"
	}
	fmt.Fprintf(s.out, "%s: %s, %d bytes in %d files with %d index records\n", label, verdict, r.Bytes, r.Generations, r.Records)
	for _, p := range r.Problems {
		fmt.Fprintf(s.out, "  %s\n", p)
	}
	return len(r.Problems) == 0, nil
}
