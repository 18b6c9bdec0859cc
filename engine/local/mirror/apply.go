package mirror

import (
	"path"
	"sync"
)

// A File is one path of the host to bring to the container.
type File struct {
	From string // of the host
	To   string // of the container
	Gone bool   // it is to be removed there
	Dir  bool   // it is a directory, or was one
	Mode uint32 // of a directory that is to be there
}

// workers is how many files are written at a time: making one is mostly the
// file system's work, and each directory is one worker's.
const workers = 4

// Apply makes the container's files what those of the host are: a file with its
// content, mode and time, a directory with the mode given, a link. First what is
// gone is removed, then directories are made, in the order given, then comes the
// rest, several directories at a time. A directory is made as it was found, and
// not as it may be by now: who looks for changes compares with what was found.
// What is gone from the host meanwhile, or
// is none of these, is passed over. With compare, files that are there already,
// with content and mode, are left alone. All are tried, whatever goes wrong with
// one of them; the first error is returned.
func (m *Mirror) Apply(files []File, compare bool) error {
	h := m.hand()
	defer h.forget()
	var first error
	note := func(err error) {
		if first == nil {
			first = err
		}
	}
	for _, f := range files {
		if f.Gone {
			note(h.remove(f.To, f.Dir))
		}
	}
	for _, f := range files {
		if f.Dir && !f.Gone {
			note(h.again(f.From, func() error { return h.directory(f.To, f.Mode) }))
		}
	}
	note(m.fill(neighbours(files), compare))
	return first
}

// neighbours are the files and links to bring, those of one directory together.
func neighbours(files []File) [][]File {
	var out [][]File
	at := map[string]int{}
	for _, f := range files {
		if f.Gone || f.Dir {
			continue
		}
		dir := path.Dir(f.To)
		i, ok := at[dir]
		if !ok {
			i = len(out)
			at[dir], out = i, append(out, nil)
		}
		out[i] = append(out[i], f)
	}
	return out
}

// fill brings groups of files, several at a time.
func (m *Mirror) fill(groups [][]File, compare bool) error {
	next := make(chan []File, len(groups))
	for _, g := range groups {
		next <- g
	}
	close(next)
	errs := make(chan error, workers)
	var all sync.WaitGroup
	for range min(workers, len(groups)) {
		all.Go(func() { errs <- m.work(next, compare) })
	}
	all.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// work is one worker's: it returns the first error.
func (m *Mirror) work(next <-chan []File, compare bool) error {
	h := m.hand()
	defer h.forget()
	var first error
	for group := range next {
		for _, f := range group {
			if compare && m.same(f.From, f.To) {
				continue
			}
			if err := h.put(f.From, f.To); first == nil {
				first = err
			}
		}
	}
	return first
}
