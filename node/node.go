package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/crdt/engine"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/replication/view"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/aggregate"
	"github.com/tiermesh/tiermesh/tiers/catalog"
	"github.com/tiermesh/tiermesh/tiers/command"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
	"github.com/tiermesh/tiermesh/tiers/event"
	"github.com/tiermesh/tiermesh/tiers/indicator"
	"github.com/tiermesh/tiermesh/tiers/responder"
	"github.com/tiermesh/tiermesh/tiers/track"
	"github.com/tiermesh/tiermesh/transport"
	"github.com/tiermesh/tiermesh/transport/identity"
)

// Node is an open node of a site.
type Node struct {
	reloading
	opts     Options
	log      *slog.Logger
	creds    *identity.Credentials
	topology atomic.Pointer[tiers.Topology]
	registry *prometheus.Registry

	group    *replication.Group
	docs     *documents
	views    *view.Materialiser
	endpoint *transport.Endpoint
	links    *links
	api      *api.Server
	dispatching
	noticed

	ending ending
}

// dispatching is what a node keeps in memory to take in reports and dispatch by.
type dispatching struct {
	area *event.Area // nil for everywhere
	// waits is how many passes over what waits for its type are to be made yet.
	waits    atomic.Int32
	routing  routing
	board    board
	modes    modes
	catalogs *catalogs
}

// noticed is what a node keeps in memory of what an operator, or its rules, should
// look at.
type noticed struct {
	alarms     *alarms
	indicators *indicators
	listening  listening
	merging    merging
	refusals   *refusals
}

// ending is when a node began, and how it comes to its end.
type ending struct {
	started time.Time

	once    sync.Once
	done    chan struct{} // closed when the end has come
	err     error
	stop    context.CancelCauseFunc
	stopped context.Context
	running sync.WaitGroup // Run, while its loops go on
}

// counting names the rules by which the folds of [Folds] count: another name makes
// every site count anew, once.
const counting = "1"

// Folds maps each document kind that this version knows to its rules; the testbed
// makes views with them of the stores of nodes that have ended.
func Folds() map[string]view.Fold {
	folds := map[string]view.Fold{
		"event": event.Fold, event.KindQuarantine: event.FoldQuarantine, event.KindBlob: event.FoldBlob, "task": dispatch.FoldTask, "rule": dispatch.FoldRule,
		"plan": dispatch.FoldPlan, "calendar": dispatch.FoldCalendar,
		responder.Kind: responder.Fold, responder.KindPosition: responder.FoldPosition,
		responder.KindRequest: responder.FoldRequest, responder.KindPool: responder.FoldPool,
		"type": catalog.Fold, track.KindBoard: track.Fold, track.Kind: track.Fold,
		track.KindProposal: track.FoldProposal, track.KindAdoption: track.FoldAdoption,
		indicator.KindIndicator: indicator.Fold,
		catalog.KindVersion:     catalog.FoldVersion, catalog.KindGrant: catalog.FoldGrant,
		catalog.KindInstall: catalog.FoldInstall, catalog.KindReplication: catalog.FoldReplication, catalog.KindCapacity: catalog.Fold,
		command.KindOrder: command.FoldOrder, command.KindReceipt: command.FoldReceipt, command.KindMode: command.FoldMode,
		command.KindSilence: command.FoldSilence, command.KindLimit: command.FoldLimit,
		aggregate.KindContact: aggregate.FoldContact,
	}
	for _, c := range catalog.Catalogs() {
		if folds[c.Kind] == nil {
			folds[c.Kind] = catalog.Fold
		}
	}
	return folds
}

// Open acquires everything the node needs and starts its Raft group. The error
// wraps [ErrConfig], the sentinels of replication/store, transport or identity,
// and names file, address or directory. The caller must Close the node.
func Open(cfg Config, opts Options) (*Node, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	opts = opts.withDefaults()
	creds, err := identity.Load(cfg.Credentials)
	if err != nil {
		return nil, err
	}
	topology, err := readTopology(cfg.Topology)
	if err != nil {
		return nil, err
	}
	area, err := cfg.Area.read()
	if err != nil {
		return nil, err
	}
	site, ok := topology.Site(creds.ID.Site)
	if !ok || topology.Federation() != creds.ID.Federation {
		return nil, fmt.Errorf("%w: certificate is for site %s of federation %q, topology %s (federation %q) does not list it",
			ErrConfig, creds.ID.Site, creds.ID.Federation, cfg.Topology, topology.Federation())
	}
	n := &Node{
		reloading: reloading{cfg: cfg}, opts: opts, creds: creds, ending: ending{started: opts.Now()},
		log:      opts.Logger.With("site", string(creds.ID.Site), "tier", site.Tier.String(), "node", creds.ID.Node),
		registry: prometheus.NewRegistry(), noticed: noticed{alarms: newAlarms(opts.Now), indicators: newIndicators()},
		dispatching: dispatching{catalogs: newCatalogs(), area: area},
	}
	n.refusals = newRefusals(n.log, n.alarms, n.registry)
	n.ending.done = make(chan struct{})
	n.ending.stopped, n.ending.stop = context.WithCancelCause(context.Background())
	n.topology.Store(topology)
	n.live.Store(&cfg)
	n.credentialsSeen, n.topologySeen = n.credentialMarks(), marks(cfg.Topology)
	if err := n.open(); err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return n, nil
}

// open acquires in the order of dependence; what it acquired is closed by Close.
func (n *Node) open() (err error) {
	conn := n.opts.Conn
	if conn == nil {
		if conn, err = transport.ListenUDP(n.cfg.Listen); err != nil {
			return err
		}
	}
	if n.endpoint, err = transport.Open(transport.Config{
		Conn: conn, Credentials: n.creds, Logger: n.log, Idle: n.opts.LinkIdle, Refused: n.refusals.stranger,
	}); err != nil {
		return errors.Join(err, conn.Close())
	}
	if n.group, err = replication.Open(replication.Config{
		Dir: n.cfg.Dir, Federation: n.creds.ID.Federation, Site: n.creds.ID.Site, Node: n.creds.ID.Node,
		Now: n.opts.Now, Random: n.opts.Random, Fatal: n.opts.Fatal, Logger: n.log, Disk: n.opts.Disk,
		Bootstrap: n.nodeCount() <= 1 || n.opts.Bootstrap, Siblings: replication.Siblings{
			Nodes: n.nodeCount(), Streams: raftStreams{n.endpoint.Nodes().Listen(transport.KindRaft), n.endpoint.Nodes()},
			Address: n.address, Advertise: n.advertised(),
		},
	}); err != nil {
		return err
	}
	n.openEngines()
	n.links = newLinks(n)
	if err := n.adoptTopology(); err != nil {
		return err
	}
	n.registerMetrics()
	token := ""
	if n.cfg.API != "" && !strings.HasPrefix(n.cfg.API, "unix:") {
		if token, err = api.Token(filepath.Join(n.cfg.Dir, "api.token")); err != nil {
			return err
		}
	}
	n.api, err = api.Open(api.Config{
		Listen: n.cfg.API, Token: token, Inner: n.endpoint.Nodes().Listen(transport.KindAPI),
		Backend: backend{n}, Site: site{n}, Logger: n.log, Gatherer: n.registry, Registerer: n.registry,
	})
	return err
}

// openEngines makes what edits and reads documents.
func (n *Node) openEngines() {
	own := engine.New()
	n.docs = newDocuments(n.group, own, own)
	cfg := view.Config{
		Store: n.group.Store(), Documents: n.docs.kept, Site: n.creds.ID.Site, Engine: own, Folds: Folds(), Counting: counting, Logger: n.log,
		Quarantined: func(k store.DocKey, err error) {
			n.alarms.raise(alarmUnreadable, k.String(), fmt.Sprintf("document %s is quarantined: %v", k, err))
		},
	}
	cfg.Folds[event.Kind] = n.foldEvent()
	cfg.Folds[event.KindQuarantine] = n.foldQuarantine(&n.waits)
	if len(n.opts.Engine) > 0 {
		n.docs.workers = engine.NewWorkers(engine.WorkersConfig{Command: n.opts.Engine, Logger: n.log})
		isolated := engine.NewIsolated(n.docs.workers)
		cfg.Isolated, n.docs.isolated = isolated, isolated
	}
	n.views = view.New(cfg)
}

// Run runs the node until ctx ends or a loop fails, then closes it. It returns
// nil when ctx ended.
func (n *Node) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() { // ends with ctx or the node
		select {
		case <-n.ending.stopped.Done():
			cancel(context.Cause(n.ending.stopped))
		case <-ctx.Done():
		}
	}()
	n.ending.running.Add(1)
	loops, loopCtx := errgroup.WithContext(ctx) // all end with ctx
	dispatches, topology, relays, units := n.views.Subscribe(), n.views.Subscribe(), n.views.Subscribe(), n.views.Subscribe()
	definitions, apps, orders, merges, held := n.views.Subscribe(), n.views.Subscribe(), n.views.Subscribe(), n.views.Subscribe(), n.views.Subscribe()
	loops.Go(func() error { return n.views.Run(loopCtx) })
	loops.Go(func() error { return n.runDispatch(loopCtx, dispatches) })
	loops.Go(func() error { return n.runRelay(loopCtx, relays) })
	loops.Go(func() error { return n.runMerges(loopCtx, merges) })
	loops.Go(func() error { return n.runWaiting(loopCtx, held) })
	loops.Go(func() error { return n.runUnits(loopCtx, units) })
	loops.Go(func() error { return n.runTopology(loopCtx, topology) })
	loops.Go(func() error { return n.runIndicators(loopCtx, definitions) })
	loops.Go(func() error { return n.runApps(loopCtx, apps) })
	loops.Go(func() error { return n.runOrders(loopCtx, orders) })
	loops.Go(func() error { return n.runSilence(loopCtx) })
	loops.Go(func() error { return n.links.run(loopCtx) })
	loops.Go(func() error { return n.runContact(loopCtx) })
	loops.Go(func() error { return n.runScrub(loopCtx) })
	loops.Go(func() error { return n.runReload(loopCtx) })
	loops.Go(func() error { return n.runReissue(loopCtx) })
	loops.Go(func() error { return n.runMembers(loopCtx) })
	loops.Go(func() error { return n.api.Run(loopCtx) })
	err := loops.Wait()
	n.ending.running.Done()
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
		err = nil
	}
	return errors.Join(n.group.WithRemedy(err), n.Close())
}

// errStopped is the cause that ends the loops on Close.
var errStopped = errors.New("node: closed")

// Close ends the node; see the package comment for the order.
func (n *Node) Close() error { return n.end(true) }

// Crash ends the node as SIGKILL would: nothing is flushed, no peer is told.
// The testbed uses it.
func (n *Node) Crash() error { return n.end(false) }

func (n *Node) end(orderly bool) error {
	first := false
	n.ending.once.Do(func() { first = true })
	if !first {
		<-n.ending.done
		return n.ending.err
	}
	defer close(n.ending.done)
	var errs []error
	if !orderly && n.endpoint != nil {
		errs = append(errs, n.endpoint.Abandon()) // first, so that no goodbye goes out
	}
	n.ending.stop(errStopped)
	if n.api != nil {
		errs = append(errs, n.api.Close())
	}
	n.ending.running.Wait()
	if n.docs != nil && n.docs.workers != nil {
		errs = append(errs, n.docs.workers.Close())
	}
	switch {
	case n.group == nil:
	case orderly:
		errs = append(errs, n.group.Close())
	default:
		errs = append(errs, n.group.Abandon())
	}
	if orderly && n.endpoint != nil {
		errs = append(errs, n.endpoint.Close()) // the group hands over through it
	}
	n.ending.err = errors.Join(errs...)
	return n.ending.err
}

// Ready waits until the site has a leader that takes writes. The error is ctx's,
// or wraps [api.ErrUnavailable] when the node was closed.
func (n *Node) Ready(ctx context.Context) error {
	for {
		_, _, err := site{n}.Leader(ctx)
		if err != nil && ctx.Err() != nil {
			return fmt.Errorf("wait for a leader: %w", ctx.Err())
		}
		if err == nil || n.ending.stopped.Err() != nil {
			return err
		}
	}
}

// advertised is the address of this node for a new group's configuration.
func (n *Node) advertised() string {
	if addr, ok := n.address(n.creds.ID.Node); ok {
		return addr
	}
	return n.endpoint.Addr().String()
}

// ID returns the node's identity.
func (n *Node) ID() identity.ID { return n.creds.ID }

// Addr returns the address on which peers reach the node.
func (n *Node) Addr() net.Addr { return n.endpoint.Addr() }

// Topology returns the topology in force.
func (n *Node) Topology() *tiers.Topology { return n.topology.Load() }

// Group returns the site's Raft group, for the testbed's oracles.
func (n *Node) Group() *replication.Group { return n.group }

// Alarms lists the findings that an operator should see, the latest last.
func (n *Node) Alarms() []string { return n.alarms.all() }

// Backend returns what the node's API serves, for the testbed.
func (n *Node) Backend() api.Backend { return backend{n} }

// Views returns the materialiser, for the testbed's oracles.
func (n *Node) Views() *view.Materialiser { return n.views }
