package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/testbed/bench"
)

// siteStep is what one process of a site's measurement reports: each step runs
// in a process of its own, so that memory is that of the step alone.
type siteStep struct {
	OpsS    float64 `json:"ops_s,omitempty"`
	Seconds float64 `json:"seconds,omitempty"`
	RSSMB   float64 `json:"rss_mb,omitempty"`
}

func newBenchSite() *cobra.Command {
	var cfg bench.SiteConfig
	var asJSON bool
	var step string
	cmd := &cobra.Command{
		Use: "site", Short: "What a site of many documents costs to hold and to start", Args: exactArgs(0),
		Long: `Fills a new site with events and starts it twice in processes of their own: after
an orderly end, and after one without a flush. Prints the seconds until the site
takes a write, the memory then, and the disk bytes per document.`,
		Example: "  tiermesh bench site --n 1000000 --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if step != "" {
				return runSiteStep(cmd, cfg, step)
			}
			remove, err := orTemporary(&cfg.Dir)
			if err != nil {
				return err
			}
			defer remove()
			c, err := benchSite(cmd, cfg)
			if err != nil {
				return err
			}
			w := cmd.OutOrStdout()
			if asJSON {
				return json.NewEncoder(w).Encode(c)
			}
			_, err = fmt.Fprintf(w, "%s: filled at %.0f/s, serving after %.2f s (%.2f s after a crash), %.0f MB resident, %.0f bytes of disk each\n",
				count(c.N, "document"), c.FillOpsS, c.CleanStartS, c.CrashStartS, c.RSSMB, c.DiskBytesDoc)
			return err
		},
	}
	f := cmd.Flags()
	f.IntVar(&cfg.N, "n", 100_000, "documents")
	f.StringVar(&cfg.Dir, "dir", "", "an existing, empty directory on the disk to measure; a temporary one when left out")
	f.BoolVar(&asJSON, "json", false, "one JSON object")
	f.StringVar(&step, "step", "", "one step of the measurement, in this process")
	_ = f.MarkHidden("step")
	return cmd
}

func runSiteStep(cmd *cobra.Command, cfg bench.SiteConfig, step string) (err error) {
	cfg.Progress = func(text string) { fmt.Fprintln(cmd.ErrOrStderr(), text) }
	var out siteStep
	switch step {
	case "fill":
		out.OpsS, err = bench.Fill(cmd.Context(), cfg)
	case "start", "crash":
		out.Seconds, out.RSSMB, err = bench.Start(cmd.Context(), cfg.Dir, step == "crash")
	default:
		return usagef("--step %q: want fill, start or crash", step)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(cmd.OutOrStdout()).Encode(out)
}

func benchSite(cmd *cobra.Command, cfg bench.SiteConfig) (bench.SiteCase, error) {
	c := bench.SiteCase{Peer: "tiermesh", Workload: "site", N: cfg.N}
	if cfg.N < 1 {
		return c, fmt.Errorf("%w: %s", bench.ErrConfig, count(cfg.N, "document"))
	}
	// The start before the last ends without a flush; the last one finds that.
	for _, s := range []struct {
		step string
		into func(siteStep)
	}{
		{"fill", func(s siteStep) { c.FillOpsS = s.OpsS }},
		{"crash", func(s siteStep) { c.CleanStartS, c.RSSMB = s.Seconds, s.RSSMB }},
		{"start", func(s siteStep) { c.CrashStartS = s.Seconds }},
	} {
		out, err := childStep(cmd.Context(), cmd.ErrOrStderr(), cfg, s.step)
		if err != nil {
			return c, err
		}
		s.into(out)
	}
	disk, err := bench.SiteDisk(cfg.Dir)
	c.DiskMB, c.DiskBytesDoc = float64(disk)/(1<<20), float64(disk)/float64(cfg.N)
	return c, err
}

// childStep runs one step in a process of its own.
func childStep(ctx context.Context, stderr io.Writer, cfg bench.SiteConfig, step string) (out siteStep, err error) {
	self, err := os.Executable()
	if err != nil {
		return out, err
	}
	child := exec.CommandContext(ctx, self, "bench", "site", "--step", step, "--dir", cfg.Dir, "--n", strconv.Itoa(cfg.N)) //nolint:gosec // this very program
	child.Stderr = stderr
	b, err := child.Output()
	if err != nil {
		return out, fmt.Errorf("step %s: %w", step, err)
	}
	return out, json.Unmarshal(b, &out)
}
