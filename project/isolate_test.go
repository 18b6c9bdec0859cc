package project

import "testing"

// What copies of one project would share is told apart by the project's name;
// what is external, and what has the name already, stays.
func TestIsolate(t *testing.T) {
	p := &Project{
		Name: "app-1",
		Services: map[string]*Service{
			"web":   {Name: "web", ContainerName: "web", Build: &Build{}, Container: Container{Image: "team/web:2"}},
			"twin":  {Name: "twin", ContainerName: "app-1-twin", Container: Container{Image: "team/web:2", NetworkMode: "container:web"}},
			"built": {Name: "built", Build: &Build{}, Container: Container{Image: "host:5000/built"}},
			"db":    {Name: "db", Container: Container{Image: "postgres:16"}},
		},
		Networks: map[string]*Network{"own": {Name: "lan"}, "default": {Name: "app-1_default"}, "far": {Name: "far", External: true}},
		Volumes:  map[string]*Volume{"own": {Name: "data"}, "far": {Name: "shared", External: true}},
	}
	for range 2 { // the second time nothing is left to do
		p.Isolate()
		for what, pair := range map[string][2]string{
			"fixed container": {p.Services["web"].ContainerName, "app-1-web"},
			"own container":   {p.Services["twin"].ContainerName, "app-1-twin"},
			"joined":          {p.Services["twin"].NetworkMode, "container:app-1-web"},
			"built image":     {p.Services["web"].Image, "team/web:2-app-1"},
			"named image":     {p.Services["twin"].Image, "team/web:2-app-1"},
			"untagged image":  {p.Services["built"].Image, "host:5000/built:app-1"},
			"pulled image":    {p.Services["db"].Image, "postgres:16"},
			"network":         {p.Networks["own"].Name, "app-1_lan"},
			"default network": {p.Networks["default"].Name, "app-1_default"},
			"shared network":  {p.Networks["far"].Name, "far"},
			"volume":          {p.Volumes["own"].Name, "app-1_data"},
			"shared volume":   {p.Volumes["far"].Name, "shared"},
		} {
			if pair[0] != pair[1] {
				t.Errorf("%s is called %s, not %s", what, pair[0], pair[1])
			}
		}
	}
}
