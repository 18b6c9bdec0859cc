package project

import (
	"path"
	"strings"
)

// Isolate changes the names that p shares with other copies of itself on one
// host, so that the copies can be up side by side: fixed names of containers
// begin with the project's, as those of networks and volumes that are the
// project's own do, and images that it builds under a name of their own are told
// apart by their tags. What is external stays shared. A project whose names say
// the project's already is left as it is.
func (p *Project) Isolate() {
	all := p.withJobs()
	p.ownContainers(all)
	p.ownImages(all)
	for _, n := range p.Networks {
		if !n.External {
			n.Name = p.owned(n.Name, "_")
		}
	}
	for _, v := range p.Volumes {
		if !v.External {
			v.Name = p.owned(v.Name, "_")
		}
	}
}

// withJobs are all services, and all jobs by names that no service has.
func (p *Project) withJobs() map[string]*Service {
	all := p.AllServices()
	for _, jobs := range []map[string]*Service{p.Jobs, p.DisabledJobs} {
		for name, j := range jobs {
			all["job "+name] = j
		}
	}
	return all
}

// owned is a name that begins with the project's.
func (p *Project) owned(name, sep string) string {
	if name == "" || strings.HasPrefix(name, p.Name+"-") || strings.HasPrefix(name, p.Name+"_") {
		return name
	}
	return p.Name + sep + name
}

// ownContainers renames fixed containers, also where others join them.
func (p *Project) ownContainers(all map[string]*Service) {
	renamed := map[string]string{}
	for _, s := range all {
		if s.ContainerName != "" {
			renamed["container:"+s.ContainerName] = "container:" + p.owned(s.ContainerName, "-")
			s.ContainerName = p.owned(s.ContainerName, "-")
		}
	}
	for _, s := range all {
		for _, mode := range []*string{&s.NetworkMode, &s.Ipc, &s.Pid} {
			if now, ok := renamed[*mode]; ok {
				*mode = now
			}
		}
	}
}

// ownImages tags what is built under a name of its own, also where other
// services only name it.
func (p *Project) ownImages(all map[string]*Service) {
	tagged := map[string]string{}
	for _, s := range all {
		if s.Build != nil && s.Image != "" && !strings.Contains(s.Image, "@") {
			tagged[s.Image] = p.tagged(s.Image)
		}
	}
	rename := func(ref *string) {
		if now, ok := tagged[*ref]; ok {
			*ref = now
		}
	}
	for _, s := range all {
		rename(&s.Image)
		for i := range s.PreStart {
			rename(&s.PreStart[i].Image)
		}
	}
}

// tagged is an image's name with the project's in its tag.
func (p *Project) tagged(ref string) string {
	if strings.HasSuffix(ref, p.Name) {
		return ref
	}
	if strings.Contains(path.Base(ref), ":") {
		return ref + "-" + p.Name
	}
	return ref + ":" + p.Name
}
