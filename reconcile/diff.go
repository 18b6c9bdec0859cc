package reconcile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/davit-run/davit/engine"
)

// shown bounds how many changed fields a reason names.
const shown = 3

// Changed names the fields in which two definitions differ, such as
// `environment.LOG_LEVEL "info" → "debug"`; none when they ask for the same
// container. Labels that compose itself writes do not count: a new path of the
// project or a new version of davit makes no other container.
func Changed(was, now engine.Spec) []string {
	was.Labels, now.Labels = ownLabels(was.Labels), ownLabels(now.Labels)
	was.Endpoints = asked(was.Endpoints)
	a, errA := json.Marshal(was)
	b, errB := json.Marshal(now)
	if errA == nil && errB == nil && bytes.Equal(a, b) {
		return nil
	}
	return difference(a, b)
}

// difference compares two JSON documents of the same kind of record.
func difference(a, b []byte) []string {
	var x, y any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return []string{"its recorded definition cannot be read"}
	}
	var out []string
	walk("", x, y, &out)
	return out
}

func ownLabels(labels map[string]string) map[string]string {
	var out map[string]string
	for k, v := range labels {
		if strings.HasPrefix(k, LabelPrefix) {
			continue
		}
		if out == nil {
			out = make(map[string]string, len(labels))
		}
		out[k] = v
	}
	return out
}

// walk collects in out what differs between was and now below path.
func walk(path string, was, now any, out *[]string) {
	switch a := was.(type) {
	case map[string]any:
		if b, ok := now.(map[string]any); ok {
			walkObject(path, a, b, out)
			return
		}
	case []any:
		if b, ok := now.([]any); ok && len(a) == len(b) && !plain(a) {
			for i := range a {
				walk(path+"["+strconv.Itoa(i)+"]", a[i], b[i], out)
			}
			return
		}
	}
	before, after := word(was), word(now)
	if before != after {
		*out = append(*out, path+" "+before+" → "+after)
	}
}

func walkObject(path string, a, b map[string]any, out *[]string) {
	keys := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(keys)
	for _, k := range slices.Compact(keys) {
		at := strings.TrimPrefix(path+"."+k, ".")
		x, was := a[k]
		y, is := b[k]
		if name, ok := digests[at]; ok {
			if x != y {
				*out = append(*out, name+" changed")
			}
			continue
		}
		switch {
		case !was:
			added(at, y, out)
		case !is:
			*out = append(*out, at+" removed")
		default:
			walk(at, x, y, out)
		}
	}
}

// digests are fields that stand for something too long to show.
var digests = map[string]string{"hooks.preStart": "pre_start"}

// added tells of a new object by its members, and of anything else by its
// value.
func added(path string, v any, out *[]string) {
	if m, ok := v.(map[string]any); ok && len(m) > 0 {
		walkObject(path, nil, m, out)
		return
	}
	*out = append(*out, path+" added: "+word(v))
}

// plain says whether a list holds words and numbers only, which are shown
// better as a whole.
func plain(list []any) bool {
	for _, v := range list {
		switch v.(type) {
		case map[string]any, []any:
			return false
		}
	}
	return true
}

// word is a value as a reason shows it, cut where it would fill the screen.
func word(v any) string {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	if e.Encode(v) != nil {
		return "?"
	}
	s := strings.TrimSuffix(buf.String(), "\n")
	if r := []rune(s); len(r) > 80 {
		return string(r[:77]) + "…"
	}
	return s
}

// reason joins changes into one Why.
func reason(changes []string) string {
	if len(changes) <= shown {
		return strings.Join(changes, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(changes[:shown], ", "), len(changes)-shown)
}

// networkChanged names what differs between a network as it stands and as it
// is asked for. Pools that davit chose itself do not count.
func networkChanged(was, now engine.Network) []string {
	was.ID, was.Created, was.Project = now.ID, now.Created, now.Project
	was.Labels, now.Labels = ownLabels(was.Labels), ownLabels(now.Labels)
	if len(now.IPAM) == 0 {
		was.IPAM = nil
	}
	if was.Driver == "" {
		was.Driver = "bridge"
	}
	if now.Driver == "" || now.Driver == "default" {
		now.Driver = "bridge"
	}
	return compare(was, now)
}

// volumeChanged names what differs between a volume as it is and as it is
// asked for.
func volumeChanged(was, now engine.Volume) []string {
	was.Created, was.Project, was.Anonymous = now.Created, now.Project, now.Anonymous
	was.Labels, now.Labels = ownLabels(was.Labels), ownLabels(now.Labels)
	if was.Driver == "" {
		was.Driver = "local"
	}
	if now.Driver == "" {
		now.Driver = "local"
	}
	return compare(was, now)
}

func compare(was, now any) []string {
	a, errA := json.Marshal(was)
	b, errB := json.Marshal(now)
	if errA != nil || errB != nil || bytes.Equal(a, b) {
		return nil
	}
	return difference(a, b)
}
