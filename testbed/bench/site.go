package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/testbed/local"
	"github.com/tiermesh/tiermesh/tiers"
)

// SiteConfig says how large a site to start.
type SiteConfig struct {
	// Dir is where the site lives; it must exist.
	Dir string
	// N is the number of event documents.
	N int
	// Progress is told how far filling is; nil is told nothing.
	Progress func(text string)
}

// SiteCase is what a site of N documents costs.
type SiteCase struct {
	Peer     string `json:"peer"`
	Workload string `json:"workload"`
	N        int    `json:"n"`
	// FillOpsS is the rate at which the documents were written.
	FillOpsS float64 `json:"fill_ops_s"`
	// CleanStartS and CrashStartS are from the start to the first write taken,
	// after an orderly end and after one without a flush.
	CleanStartS float64 `json:"clean_start_s"`
	CrashStartS float64 `json:"crash_start_s"`
	// RSSMB is the resident memory once the site serves, and had read nothing.
	RSSMB        float64 `json:"rss_mb"`
	DiskMB       float64 `json:"disk_mb"`
	DiskBytesDoc float64 `json:"disk_bytes_per_doc"`
}

// fillClients is how many clients fill a site.
const fillClients = 64

// Fill writes N events to a new site in dir and ends it in order.
func Fill(ctx context.Context, cfg SiteConfig) (opsS float64, err error) {
	if cfg.N < 1 {
		return 0, fmt.Errorf("%w: %d documents", ErrConfig, cfg.N)
	}
	if cfg.Progress == nil {
		cfg.Progress = func(string) {}
	}
	cluster, n, err := openSite(ctx, cfg.Dir)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, cluster.Close()) }()
	r, err := drive(ctx, cfg.N, fillClients, func(ctx context.Context, i int) error {
		if i > 0 && i%100_000 == 0 {
			cfg.Progress(fmt.Sprintf("%d of %d documents", i, cfg.N))
		}
		_, err := n.Report(ctx, fmt.Sprintf("bench-%d", i), report(i))
		return err
	})
	if err != nil {
		return 0, err
	}
	_, err = viewsBehind(ctx, n)
	return r.rate(cfg.N), err
}

const benchSite = tiers.SiteID("500000")

func openSite(ctx context.Context, dir string) (*local.Cluster, *node.Node, error) {
	c, err := local.Open(ctx, local.Config{
		Dir: dir, Federation: "bench", Sites: []tiers.Site{{ID: benchSite, Tier: tiers.TierCity, Name: "bench"}},
	}, nil)
	if err != nil {
		return nil, nil, err
	}
	return c, c.Node(benchSite), nil
}

// Start opens a site that [Fill] made and returns how long it took until a
// write was taken, and the memory then. With crash, it ends without a flush.
func Start(ctx context.Context, dir string, crash bool) (seconds, rssMB float64, err error) {
	began := time.Now()
	cluster, n, err := openSite(ctx, dir)
	if err != nil {
		return 0, 0, err
	}
	if _, err = n.Report(ctx, fmt.Sprintf("start-%d", began.UnixNano()), report(0)); err == nil {
		seconds, rssMB = time.Since(began).Seconds(), residentMB()
	}
	if crash {
		err = errors.Join(err, cluster.Crash(benchSite))
	}
	return seconds, rssMB, errors.Join(err, cluster.Close())
}

// SiteDisk returns the bytes of the site's data directory.
func SiteDisk(dir string) (int64, error) {
	return dirBytes(filepath.Join(dir, string(benchSite), "data"))
}
