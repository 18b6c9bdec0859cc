package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

// commands are all that there are, in the order of the help.
func commands(g *globals) []*cobra.Command {
	return []*cobra.Command{
		newUp(g), newDown(g), newPs(g), newLogs(g), newExec(g), newRun(g), newBuild(g), newConfig(g),
		newCreate(g), newStart(g), newStop(g), newRestart(g), newKill(g), newPause(g), newUnpause(g), newRm(g),
		newScale(g), newWait(g), newWatch(g), newAttach(g), newPort(g), newTop(g), newStats(g), newEvents(g), newWhy(g), newInspect(g), newContainer(g), newImages(g), newVolumes(g), newNetwork(g),
		newLs(g), newLoad(g), newImageSave(g), newImage(g), newPull(g), newPush(g), newPublish(g), newLogin(g), newLogout(g), newCp(g), newCommit(g), newExport(g), newDiff(g), newSystem(g), newVolume(g), newSecret(g), newDoctor(g), newBuilder(g), newVersion(g), newPluginMetadata(g),
	}
}

// newPluginMetadata is what docker asks a binary installed as
// ~/.docker/cli-plugins/docker-compose.
func newPluginMetadata(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:    "docker-cli-plugin-metadata",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(g.out, `{"SchemaVersion":"0.1.0","Vendor":"davit","Version":"v%s","ShortDescription":"davit"}`+"\n", ComposeVersion)
			return err
		},
	}
}
