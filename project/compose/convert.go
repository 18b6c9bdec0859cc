package compose

import (
	"fmt"
	"reflect"
	"sync"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/davit-run/davit/project"
)

// fill copies what dst has fields for out of the library's model. The two
// models have the same field names, so that this one function is the whole
// translation; a test holds that every field of ours has a source.
func fill(dst, src reflect.Value) {
	switch dst.Kind() {
	case reflect.Struct:
		fillStruct(dst, src)
	case reflect.Pointer:
		fillPointer(dst, src)
	case reflect.Slice:
		if src.IsNil() {
			return
		}
		out := reflect.MakeSlice(dst.Type(), src.Len(), src.Len())
		for i := range src.Len() {
			fill(out.Index(i), src.Index(i))
		}
		dst.Set(out)
	case reflect.Map:
		fillMap(dst, src)
	case reflect.Interface:
		dst.Set(src)
	default:
		dst.Set(src.Convert(dst.Type()))
	}
}

func fillStruct(dst, src reflect.Value) {
	for _, f := range routeOf(dst.Type(), src.Type()) {
		from := src
		if f.from != nil {
			from = src.FieldByIndex(f.from)
		}
		if f.from == nil || !from.IsZero() {
			fill(dst.Field(f.to), from)
		}
	}
}

// A route says which field of one struct comes from which of the other; from
// is nil for an embedded struct, which is filled from the whole.
type route struct {
	to   int
	from []int
}

// routes remembers what looking up by name has found.
var routes sync.Map // [2]reflect.Type -> []route

func routeOf(dst, src reflect.Type) []route {
	key := [2]reflect.Type{dst, src}
	if known, ok := routes.Load(key); ok {
		return known.([]route)
	}
	var out []route
	for i := range dst.NumField() {
		f := dst.Field(i)
		if f.Anonymous {
			out = append(out, route{to: i})
		} else if from, ok := src.FieldByName(f.Name); ok {
			out = append(out, route{to: i, from: from.Index})
		}
	}
	routes.Store(key, out)
	return out
}

func fillPointer(dst, src reflect.Value) {
	if src.Kind() == reflect.Pointer {
		if src.IsNil() {
			return
		}
		src = src.Elem()
	}
	out := reflect.New(dst.Type().Elem())
	fill(out.Elem(), src)
	dst.Set(out)
}

func fillMap(dst, src reflect.Value) {
	if src.IsNil() {
		return
	}
	out := reflect.MakeMapWithSize(dst.Type(), src.Len())
	iter := src.MapRange()
	for iter.Next() {
		v := reflect.New(dst.Type().Elem()).Elem()
		fill(v, iter.Value())
		out.SetMapIndex(iter.Key().Convert(dst.Type().Key()), v)
	}
	dst.Set(out)
}

// convert turns the library's project into ours.
func convert(p *types.Project) (*project.Project, error) {
	out := &project.Project{}
	fill(reflect.ValueOf(out).Elem(), reflect.ValueOf(p).Elem())
	for name, s := range out.Services {
		if err := finish(s, name, p.Services[name]); err != nil {
			return nil, err
		}
	}
	for name, s := range out.DisabledServices {
		if err := finish(s, name, p.DisabledServices[name]); err != nil {
			return nil, err
		}
	}
	for name, s := range out.Jobs {
		s.Name = name
	}
	for name, s := range out.DisabledJobs {
		s.Name = name
	}
	for key, n := range out.Networks {
		n.Key = key
		n.Hash = hashOf(p.Networks[key])
	}
	for key, v := range out.Volumes {
		v.Key = key
		v.Hash = hashOf(volumeForHash(p.Volumes[key]))
	}
	for key, f := range out.Secrets {
		f.Key = key
	}
	for key, f := range out.Configs {
		f.Key = key
	}
	return out, nil
}

func finish(s *project.Service, name string, from types.ServiceConfig) error {
	s.Name = name
	hash, err := serviceHash(from)
	if err != nil {
		return fmt.Errorf("hash of service %s: %w", name, err)
	}
	s.Hash = hash
	return nil
}
