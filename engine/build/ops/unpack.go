package ops

import (
	"context"

	"github.com/davit-run/davit/engine/build/copyin"
	"github.com/davit-run/davit/engine/build/scan"
	"github.com/davit-run/davit/engine/store/inroot"
)

func unpack(_ context.Context, _ scan.Tree, _ string, _ *inroot.Root, _ string, _ copyin.Options) (bool, error) {
	return false, nil
}
