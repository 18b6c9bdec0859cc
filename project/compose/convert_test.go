package compose

import (
	"reflect"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"

	"github.com/davit-run/davit/project"
)

// ours are fields of the model that the loader fills in itself.
var ours = map[string]bool{
	"Project.EnvFiles": true, "Project.Compatibility": true, "Project.Locate": true, "Project.Quote": true,
	"Service.Hash": true, "Service.Triggers": true, "Network.Key": true, "Network.Hash": true,
	"Volume.Key": true, "Volume.Hash": true, "File.Key": true,
}

// notOurs are fields of the library's model that ours leaves out on purpose.
var notOurs = map[string]string{
	"CredentialSpec": "Windows", "LogDriver": "of version 1", "LogOpt": "of version 1", "VolumeDriver": "of version 1",
	"Net": "of version 1", "CustomLabels": "docker compose's own", "Extends": "followed while loading",
	"Dockerfile": "of version 1, in services", "Extensions": "only services', networks' and volumes' are used",
}

// Both models have the same fields, so that nothing a file says is lost
// between them.
func TestModelsMatch(t *testing.T) {
	same(t, reflect.TypeFor[project.Project](), reflect.TypeFor[types.Project](), map[reflect.Type]bool{})
}

func same(t *testing.T, mine, theirs reflect.Type, seen map[reflect.Type]bool) {
	for mine.Kind() == reflect.Pointer {
		mine = mine.Elem()
	}
	for theirs.Kind() == reflect.Pointer {
		theirs = theirs.Elem()
	}
	switch mine.Kind() {
	case reflect.Slice, reflect.Map:
		same(t, mine.Elem(), theirs.Elem(), seen)
	case reflect.Struct:
		if !seen[mine] {
			seen[mine] = true
			fields(t, mine, theirs, seen)
		}
	}
}

func fields(t *testing.T, mine, theirs reflect.Type, seen map[reflect.Type]bool) {
	for _, f := range reflect.VisibleFields(mine) {
		if f.Anonymous || ours[mine.Name()+"."+f.Name] {
			continue
		}
		from, ok := theirs.FieldByName(f.Name)
		if !ok {
			t.Errorf("%s.%s has no source in %s", mine.Name(), f.Name, theirs)
			continue
		}
		same(t, f.Type, from.Type, seen)
	}
	for _, f := range reflect.VisibleFields(theirs) {
		if _, ok := mine.FieldByName(f.Name); !ok && !f.Anonymous && f.IsExported() && notOurs[f.Name] == "" {
			t.Errorf("%s.%s is lost: %s has no such field", theirs, f.Name, mine.Name())
		}
	}
}
