package api

import (
	"context"
	"fmt"
	"net/http"

	"github.com/tiermesh/tiermesh/tiers"
)

// TopologyRequest publishes a topology, at the city.
type TopologyRequest struct {
	// Key makes a retry safe.
	Key string `json:"key"`
	// Base is the version that must be in force, so that nobody undoes what
	// somebody else published meanwhile; zero means any.
	Base uint64 `json:"base"`
	// DryRun checks and compares, and writes nothing.
	DryRun   bool              `json:"dry_run"`
	Topology tiers.TopologyDoc `json:"topology"`
}

// TopologyResult says what a topology changes.
type TopologyResult struct {
	// Base is the version in force before, Version the one asked for.
	Base    uint64 `json:"base"`
	Version uint64 `json:"version"`
	// Published is false after a dry run.
	Published bool               `json:"published"`
	Diff      tiers.TopologyDiff `json:"diff"`
}

func (s *Server) publishTopology(r *http.Request) (any, error) {
	var req TopologyRequest
	if err := body(r, &req); err != nil {
		return nil, err
	}
	if err := checkKey(req.Key); err != nil {
		return nil, err
	}
	return s.cfg.Backend.PublishTopology(r.Context(), req)
}

// Topology returns the topology that is in force at the node.
func (c *Client) Topology(ctx context.Context) (*tiers.Topology, error) {
	var doc tiers.TopologyDoc
	if err := c.do(ctx, http.MethodGet, "/v1/topology", nil, &doc); err != nil {
		return nil, err
	}
	t, err := tiers.NewTopology(doc)
	if err != nil {
		return nil, fmt.Errorf("topology of %s: %w", c.addr, err)
	}
	return t, nil
}

// PublishTopology publishes a topology, or says what it would change.
func (c *Client) PublishTopology(ctx context.Context, r TopologyRequest) (out TopologyResult, err error) {
	return out, c.do(ctx, http.MethodPost, "/v1/topology", r, &out)
}
