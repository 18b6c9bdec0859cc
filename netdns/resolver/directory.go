package resolver

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"

	"github.com/davit-run/davit/netdns"
)

// Directory knows the endpoints of the networks it follows. The endpoints are
// files that every process of the installation writes, so containers of other
// projects on a shared network are found too. Safe for concurrent use.
type Directory struct {
	rec   netdns.Records
	watch *fsnotify.Watcher
	done  chan struct{}

	taking sync.Mutex // while endpoints are read; before mu

	mu    sync.RWMutex
	zones map[string]*zone // by network
	dirs  map[string]string

	inodes map[string]uint64        // of dirs: one that was made anew is read anew
	seen   map[string]unix.Timespec // when a network's endpoints had last changed as they were listed
}

// zone is one network.
type zone struct {
	endpoints map[string]netdns.Endpoint // by container
	names     map[string][]record        // by lower-case name
	addrs     map[netip.Addr]string      // to container name
}

// record is what a name leads to.
type record struct {
	project, container string
	v4, v6             netip.Addr
}

// OpenDirectory begins to follow the records.
func OpenDirectory(rec netdns.Records) (*Directory, error) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch endpoints: %w", err)
	}
	d := &Directory{
		rec: rec, watch: w, done: make(chan struct{}),
		zones: map[string]*zone{}, dirs: map[string]string{}, inodes: map[string]uint64{}, seen: map[string]unix.Timespec{},
	}
	go d.run()
	return d, nil
}

// Close ends the watch.
func (d *Directory) Close() error {
	err := d.watch.Close()
	<-d.done
	return err
}

func key(network string) string { return "networks/" + network + "/endpoints" }

// Follow makes the network known as it is now. Again, it reads only what it
// does not know yet: what changes in known endpoints is watched.
func (d *Directory) Follow(network string) error {
	dir := filepath.Clean(d.rec.Dir(key(network)))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("follow network %s: %w", network, err)
	}
	// Watch before reading: what changes in between is read twice, not lost.
	if err := d.watch.Add(dir); err != nil {
		return fmt.Errorf("follow network %s: %w", network, err)
	}
	var st unix.Stat_t
	if err := unix.Stat(dir, &st); err != nil {
		return fmt.Errorf("follow network %s: %w", network, err)
	}
	d.mu.Lock()
	d.dirs[dir] = network
	same := d.inodes[dir] == st.Ino && d.zones[network] != nil
	d.inodes[dir] = st.Ino
	d.mu.Unlock()
	if same {
		return d.catchUp(network)
	}
	return d.load(network)
}

// Look reads one container's endpoint anew, on a network that is followed: for
// who has just written or removed it, and does not want to wait until the watch
// tells of that.
func (d *Directory) Look(network, container string) {
	d.mu.RLock()
	followed := d.zones[network] != nil
	d.mu.RUnlock()
	if followed {
		d.take(network, container)
	}
}

// catchUp takes endpoints into account that were written or removed before the
// watch has told of them: who follows must find those that are there already.
// All of them would be read as often as containers start.
func (d *Directory) catchUp(network string) error {
	names, err := d.rec.List(key(network))
	if err != nil {
		return fmt.Errorf("list endpoints of network %s: %w", network, err)
	}
	there := make(map[string]bool, len(names))
	var differ []string
	d.mu.RLock()
	z := d.zones[network]
	for _, c := range names {
		there[c] = true
		if _, known := z.endpoints[c]; !known {
			differ = append(differ, c)
		}
	}
	for c := range z.endpoints {
		if !there[c] {
			differ = append(differ, c) // gone, or written since the names were listed
		}
	}
	d.mu.RUnlock()
	for _, c := range differ {
		d.take(network, c)
	}
	return nil
}

// grain is how far apart two changes of a directory may be and have one time: a
// tick of the slowest kernel's clock, twice.
const grain = 20 * time.Millisecond

// refresh takes into account what the watch has not told of yet, and says whether
// there may have been anything: a name that is unknown may be a moment old. Where
// nothing has changed that costs one stat(2) for each network.
func (d *Directory) refresh(networks []string) (changed bool) {
	for _, n := range networks {
		var st unix.Stat_t
		if unix.Stat(d.rec.Dir(key(n)), &st) != nil {
			continue
		}
		begin := time.Now() // what changes from here on may not be listed
		d.mu.RLock()
		known := d.zones[n] == nil || d.seen[n] == st.Mtim
		d.mu.RUnlock()
		if known || d.catchUp(n) != nil {
			continue
		}
		changed = true
		if age := begin.Sub(time.Unix(st.Mtim.Unix())); age < 0 || age > grain {
			d.mu.Lock()
			d.seen[n] = st.Mtim
			d.mu.Unlock()
		}
	}
	return changed
}

// load reads all endpoints of a network. What changes meanwhile is taken after
// them, see take: else a container that goes while they are read would stay known.
func (d *Directory) load(network string) error {
	d.taking.Lock()
	defer d.taking.Unlock()
	names, err := d.rec.List(key(network))
	if err != nil {
		return fmt.Errorf("list endpoints of network %s: %w", network, err)
	}
	z := newZone()
	for _, c := range names {
		var ep netdns.Endpoint
		err := d.rec.Read(key(network)+"/"+c, &ep)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read endpoint %s of network %s: %w", c, network, err)
		}
		z.put(c, ep)
	}
	d.mu.Lock()
	d.zones[network] = z
	d.mu.Unlock()
	return nil
}

func (d *Directory) run() {
	defer close(d.done)
	for {
		select {
		case e, ok := <-d.watch.Events:
			if !ok {
				return
			}
			d.changed(e.Name)
		case err, ok := <-d.watch.Errors:
			if !ok {
				return
			}
			if errors.Is(err, fsnotify.ErrEventOverflow) {
				d.reload()
			}
		}
	}
}

func (d *Directory) reload() {
	d.mu.RLock()
	var all []string
	for _, n := range d.dirs {
		all = append(all, n)
	}
	d.mu.RUnlock()
	for _, n := range all {
		_ = d.load(n) // the next event tries again
	}
}

// changed takes one endpoint file into account.
func (d *Directory) changed(path string) {
	base := filepath.Base(path)
	if strings.HasPrefix(base, ".") || strings.HasSuffix(base, "~") {
		return // a record being written, or the generation before
	}
	d.mu.RLock()
	network, ok := d.dirs[filepath.Dir(path)]
	d.mu.RUnlock()
	if !ok {
		return
	}
	d.take(network, strings.TrimSuffix(base, ".json"))
}

// take reads one endpoint anew. One is read at a time: what is put last was read
// last.
func (d *Directory) take(network, container string) {
	d.taking.Lock()
	defer d.taking.Unlock()
	var ep netdns.Endpoint
	err := d.rec.Read(key(network)+"/"+container, &ep)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	z := d.zones[network]
	if z == nil {
		z = newZone()
		d.zones[network] = z
	}
	z.drop(container)
	if err == nil {
		z.put(container, ep)
	}
}

func newZone() *zone {
	return &zone{endpoints: map[string]netdns.Endpoint{}, names: map[string][]record{}, addrs: map[netip.Addr]string{}}
}

func (z *zone) put(container string, ep netdns.Endpoint) {
	z.endpoints[container] = ep
	r := record{project: ep.Project, container: container, v4: ep.IPv4, v6: ep.IPv6}
	for _, n := range namesOf(ep) {
		z.names[n] = append(slices.Clip(z.names[n]), r)
	}
	for _, a := range []netip.Addr{ep.IPv4, ep.IPv6} {
		if a.IsValid() {
			z.addrs[a] = ep.Name
		}
	}
}

func (z *zone) drop(container string) {
	ep, ok := z.endpoints[container]
	if !ok {
		return
	}
	delete(z.endpoints, container)
	for _, n := range namesOf(ep) {
		left := slices.DeleteFunc(slices.Clone(z.names[n]), func(r record) bool { return r.container == container })
		if len(left) == 0 {
			delete(z.names, n)
		} else {
			z.names[n] = left
		}
	}
	for _, a := range []netip.Addr{ep.IPv4, ep.IPv6} {
		if z.addrs[a] == ep.Name {
			delete(z.addrs, a)
		}
	}
}

// namesOf are an endpoint's names, each once, in lower case.
func namesOf(ep netdns.Endpoint) []string {
	out := make([]string, 0, len(ep.Names)+1)
	for _, n := range append([]string{ep.Name}, ep.Names...) {
		n = strings.ToLower(strings.TrimSuffix(n, "."))
		if n != "" && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

// lookup appends to out what a lower-case name means to a container of project
// that is on the given networks, and says whether anything has the name. If
// containers of the asker's own project have it, only they count. NAME.NETWORK
// means NAME on that network.
func (d *Directory) lookup(name []byte, project string, networks []string, out []record) ([]record, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, n := range networks {
		z := d.zones[n]
		if z == nil {
			continue
		}
		out = append(out, z.names[string(name)]...) // no allocation: the compiler knows this form
		if i := len(name) - len(n) - 1; i > 0 && name[i] == '.' && string(name[i+1:]) == n {
			out = append(out, z.names[string(name[:i])]...)
		}
	}
	own := 0
	for _, r := range out {
		if r.project == project {
			out[own] = r
			own++
		}
	}
	if own > 0 {
		out = out[:own]
	}
	return out, len(out) > 0
}

// reverse returns the name of the container that has an address on one of the
// networks, as NAME.NETWORK.
func (d *Directory) reverse(a netip.Addr, networks []string) (string, bool) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	for _, n := range networks {
		if z := d.zones[n]; z != nil {
			if name, ok := z.addrs[a]; ok {
				return name + "." + n, true
			}
		}
	}
	return "", false
}
