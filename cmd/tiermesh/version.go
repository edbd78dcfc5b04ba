package main

import (
	"encoding/json"
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/replication"
)

// build says what was built.
type build struct {
	Version string `json:"version"`
	// Commit is the source's; with "+changes" where files differed from it.
	Commit string `json:"commit"`
	Go     string `json:"go"`
	// Format is the newest format of a site's log that this build reads.
	Format int `json:"format"`
}

// thisBuild reads what Go stamped into the program.
func thisBuild() build {
	b := build{Version: "unknown", Commit: "unknown", Format: replication.Format}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.Go, b.Version = info.GoVersion, info.Main.Version
	changes := ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			b.Commit = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			changes = "+changes"
		}
	}
	b.Commit += changes
	return b
}

func newVersion(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print version, commit and format", Args: exactArgs(0),
		Long: `Prints the build's version, the commit that it was made of, and the newest format of
a site's log that it reads. The nodes of a site may have different builds while they
are brought to a new one, node by node; see tiermesh raft upgrade.`,
		Example: "  tiermesh version -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := thisBuild()
			if g.output == "json" {
				return json.NewEncoder(cmd.OutOrStdout()).Encode(b)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "tiermesh %s, commit %s, format %d, %s\n", b.Version, b.Commit, b.Format, b.Go)
			return err
		},
	}
}
