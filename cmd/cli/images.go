package cli

import "github.com/davit-run/davit/project"

// locate says where the files ask for an image.
func (h *host) locate(mistake *project.Error, ref string) {
	p := h.session.project
	for _, i := range h.session.desired.Images {
		if i.Ref != ref || p == nil {
			continue
		}
		mistake.Key = "services." + i.Service + ".image"
		at := p.Origin(mistake.Key)
		mistake.File, mistake.Line, mistake.Column = at.File, at.Line, at.Column
		return
	}
}
