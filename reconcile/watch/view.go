package watch

// A view is what one look has found, so that all trees see the same: a file that
// is being written would otherwise be news to one service now, and to another, of
// the same path, a moment later.
type view struct {
	stamps map[string]seen
	names  map[string]listing
}

type seen struct {
	stamp stamp
	there bool
}

type listing struct {
	names []string
	err   error
}

func newView() *view { return &view{stamps: map[string]seen{}, names: map[string]listing{}} }

// stampOf is the function of that name, asked once for each path. A nil view
// remembers nothing.
func (v *view) stampOf(path string) (stamp, bool) {
	if v == nil {
		return stampOf(path)
	}
	s, ok := v.stamps[path]
	if !ok {
		s.stamp, s.there = stampOf(path)
		v.stamps[path] = s
	}
	return s.stamp, s.there
}

// readNames is the function of that name, asked once for each directory. What
// comes into it later is heard of: whoever asks has it watched by then.
func (v *view) readNames(dir string) ([]string, error) {
	if v == nil {
		return readNames(dir)
	}
	l, ok := v.names[dir]
	if !ok {
		l.names, l.err = readNames(dir)
		v.names[dir] = l
	}
	return l.names, l.err
}
