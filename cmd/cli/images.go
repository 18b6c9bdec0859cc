package cli

import (
	"context"
	"fmt"

	"github.com/davit-run/davit/project"
	"github.com/davit-run/davit/reconcile"
)

// PullImage finds an image that is on this host by now, and otherwise tells
// how it gets there.
func (h *host) PullImage(ctx context.Context, do reconcile.PullImage) error {
	found, err := h.Images(ctx, []string{do.Ref})
	if err != nil || found[do.Ref] != "" {
		return err
	}
	mistake := &project.Error{
		What: "there is no image " + do.Ref + " on this host",
		Fix:  fmt.Sprintf("bring it with \"davit load -i ARCHIVE\" or \"davit image import ROOTFS.tar %s\"", do.Ref),
	}
	h.locate(mistake, do.Ref)
	return mistake
}

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
