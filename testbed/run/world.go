package run

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/testbed/oracle"
	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/tiers"
)

// ErrUnsupported is wrapped when a world cannot do what a script asks for.
var ErrUnsupported = errors.New("run: not possible in this mode")

// ErrDown is wrapped when a site that is down or paused was asked for something.
var ErrDown = errors.New("run: site is down")

// World is a level of the testbed: sites that can be broken. Its time is that of
// package time where the runner runs, virtual inside a bubble. It is safe for
// concurrent use, but for Open and Close; acts on one site do not overlap.
type World interface {
	// Open creates the federation and starts every site; progress is told of each.
	Open(ctx context.Context, s *scenario.Script, progress func(up, of int)) error
	// Topology returns the topology with which the sites were started: keys and
	// addresses are filled in.
	Topology() *tiers.Topology
	// Site returns how to talk to a site. The error wraps [ErrDown].
	Site(id tiers.SiteID) (Site, error)
	// Line sets what the line from one site to another does from now on, in that
	// direction.
	Line(from, to tiers.SiteID, l scenario.Line) error
	// Isolate cuts a site from every other one, or ends that; lines keep what they
	// were set to.
	Isolate(id tiers.SiteID, cut bool) error
	// Act does what the act's kind says and returns when it is done. The error
	// wraps [ErrUnsupported] for what this world cannot do.
	Act(ctx context.Context, a scenario.Act) error
	// Supports reports whether the world can do such an act, for lint.
	Supports(k scenario.ActKind) bool
	// Usage is what the sites have used since Open.
	Usage() Usage
	// Freeze brings every site that is up to where its store can be read, and stays
	// readable until Close. Worlds in this process have nothing to do; others stop
	// their nodes in order and open the stores.
	Freeze(ctx context.Context) error
	// Read returns the store of a site, in this process at any time, elsewhere
	// after Freeze. The error wraps [ErrDown] or [ErrUnsupported].
	Read(id tiers.SiteID) (oracle.Site, error)
	// Close ends everything and leaves nothing behind but files in its directory.
	Close() error
}

// Site is how the runner talks to a site: a node in this process, or its API.
type Site interface {
	Status(ctx context.Context) (api.Status, error)
	Report(ctx context.Context, r api.ReportRequest) (api.WriteResult, error)
	EditTrack(ctx context.Context, r api.EditRequest) (api.WriteResult, error)
	PublishTopology(ctx context.Context, r api.TopologyRequest) (api.TopologyResult, error)
	SyncStatus(ctx context.Context, q api.SyncQuery) (api.SyncStatus, error)
	// View returns every document of a kind (event, task, …) with a name.
	View(ctx context.Context, kind, name string) ([]json.RawMessage, error)
	// Ask calls f with the site's domain. What f got counts only without an error.
	Ask(ctx context.Context, f func(Domain) error) error
	// Publish writes catalog entries. The error wraps [ErrUnsupported] where the
	// site is in another process.
	Publish(ctx context.Context, key string, entries []node.Entry) error
}

// Usage is what a world's sites have used.
type Usage struct {
	// WireBytes are the UDP payload bytes that sites have sent.
	WireBytes uint64
	// NeededBytes are those of the batches that carried something new; zero where
	// that is not known.
	NeededBytes uint64
	// RSSBytes is the memory in use by the process or processes now.
	RSSBytes uint64
	// CPUSeconds is the processor time of the same.
	CPUSeconds float64
	// Processes is how many these are; zero means one.
	Processes int
}
