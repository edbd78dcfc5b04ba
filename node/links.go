package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/transport"
	"github.com/tiermesh/tiermesh/transport/wire"
)

// links dials the parent, accepts children, runs a session on each link and
// remembers what became of it.
type links struct {
	n *Node

	mu    sync.Mutex // guards live, known and up
	live  map[tiers.SiteID]*linkDriver
	known map[tiers.SiteID]*linkRecord
	up    upward
	// standing is how this site stands with those above, as it was noted last.
	standing atomic.Pointer[api.Upward]

	admission *admission
	refusals  *refusals
	farewells chan struct{} // a place for each goodbye under way
	forked    chan struct{} // capacity 1: records were set aside
	adopted   chan struct{} // capacity 1: another topology is in force
	sentAway  chan struct{} // capacity 1: the parent told this site to go elsewhere
}

// linkRecord outlives the connections to one peer.
type linkRecord struct {
	state           string
	since           time.Time
	lastContact     time.Time
	provenAt        time.Time
	lastError       string
	owedOut, owedIn uint64 // as the last session left it
	rtt             time.Duration
	totals          LinkTotals
	digest          crdt.Hash
	peerDigest      crdt.Hash
	equal           bool
	last            lastSession
	disputed        []crdt.ChainID
}

// LinkTotals are a link's counters over all its connections. The receiving
// end's NeededBytes are the batch bytes that carried records new to it.
type LinkTotals struct {
	SentBytes, ReceivedBytes     uint64 // UDP payload
	SentRecords, ReceivedRecords uint64
	// Bytes of records, uncompressed.
	SentRecordBytes, ReceivedRecordBytes uint64
	BatchBytes, NeededBytes              uint64 // received in batches; of these, new
	Connections                          uint64
}

// The states of a link.
const (
	linkConnecting = "connecting"
	linkConnected  = "connected"
	linkRefused    = "refused"
	linkDown       = "down"
	linkRetired    = "retired" // and refused, since it goes on dialling
)

func newLinks(n *Node) *links {
	return &links{
		n: n, live: map[tiers.SiteID]*linkDriver{}, known: map[tiers.SiteID]*linkRecord{}, up: upward{movedAt: time.Now()},
		admission: newAdmission(n.opts.Comparing, admissionQueue*n.opts.Comparing), refusals: n.refusals,
		farewells: make(chan struct{}, farewellsMax), forked: make(chan struct{}, 1),
		adopted: make(chan struct{}, 1), sentAway: make(chan struct{}, 1),
	}
}

// run holds the node's links until ctx ends. Links live only while this node
// leads its site, for a link's session must see every committed record.
func (l *links) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx) // all end with ctx
	g.Go(func() error { return l.accept(ctx, g) })
	g.Go(func() error {
		for ctx.Err() == nil {
			lead, err := l.n.group.Lead(ctx)
			if err == nil {
				err = l.lead(ctx, lead)
			}
			if err != nil && ctx.Err() == nil {
				return err
			}
		}
		return nil
	})
	return g.Wait()
}

// lead links this site up until the leadership or ctx ends.
func (l *links) lead(ctx, lead context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(lead, cancel)()
	g, ctx := errgroup.WithContext(ctx) // all end with ctx
	l.resetUp()
	g.Go(func() error { return l.dialParent(ctx) })
	g.Go(func() error { return l.runStandIn(ctx) })
	g.Go(func() error { return l.broadcast(ctx) })
	err := g.Wait()
	l.closeAll("leadership moved")
	return err
}

// accept runs a session on each link that a child opens, while this node leads
// its site; otherwise the child is sent to the next node.
func (l *links) accept(ctx context.Context, g *errgroup.Group) error {
	for {
		link, err := l.n.endpoint.Accept(ctx)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, transport.ErrClosed) {
				return nil //nolint:nilerr // the end that was asked for
			}
			// Its certificate does not say who it is; there is no peer to count.
			l.refusals.note("", wire.CodeFederation, err.Error())
			continue
		}
		g.Go(func() error { // ends with the link
			lead := l.n.group.Leading()
			if lead == nil {
				return link.Close(wire.CodeNotLeader, "this node does not lead its site")
			}
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			defer context.AfterFunc(lead, cancel)()
			l.admit(ctx, link)
			return nil
		})
	}
}

// admit serves a link that a peer opened, when it may have one, as soon as not
// too many others compare what they hold.
func (l *links) admit(ctx context.Context, link *transport.Link) {
	peer, t := link.Peer().Site, l.n.Topology()
	row, listed := t.Site(peer)
	switch {
	case l.isRetired():
		_ = link.Close(wire.CodeRetired, "this site is retired")
		return
	case row.Retired:
		l.refuse(link, wire.CodeRetired, fmt.Sprintf("site %s is retired in topology version %d", peer, t.Version()))
		return
	case !listed:
		l.refuse(link, wire.CodeUnlinked, fmt.Sprintf("site %s is not listed in topology version %d", peer, t.Version()))
		return
	}
	leave, retry := l.admission.enter(ctx, peer)
	if leave == nil {
		l.farewell(ctx, link, &wire.Bye{
			Code: wire.CodeBusy, RetryAfterMS: uint32(retry.Milliseconds()), Reason: fmt.Sprintf("too many dial at once: come back in %v", retry),
		})
		return
	}
	defer leave()
	_, _ = l.serve(ctx, link, leave) // noted in the peer's record
}

// refuse closes a link that may not be, and counts that.
func (l *links) refuse(link *transport.Link, code wire.Code, why string) {
	l.refusals.note(link.Peer().Site, code, why)
	_ = link.Close(code, why)
}

// farewellsMax bounds the goodbyes that wait for their peer to have read them.
const farewellsMax = 64

// farewell closes a link with a goodbye that says more than a code. When too
// many are under way, the code must do.
func (l *links) farewell(ctx context.Context, link *transport.Link, bye *wire.Bye) {
	select {
	case l.farewells <- struct{}{}:
		defer func() { <-l.farewells }()
		_ = link.Farewell(ctx, bye) // what cannot be said is closed all the same
	default:
		_ = link.Close(bye.Code, bye.Reason)
	}
}

// serve runs the session of one link to its end. A newer link to the same peer
// replaces an older one, whose end may not have noticed that it is dead.
// Compared, when not nil, is called once both ends know what the other one holds.
// It returns the peer's goodbye, if it said one, and why the link ended.
func (l *links) serve(ctx context.Context, link *transport.Link, compared func()) (*wire.Bye, error) {
	peer := link.Peer().Site
	d := newLinkDriver(l.n, link)
	d.talk.compared = compared
	l.mu.Lock()
	older := l.live[peer]
	l.live[peer] = d
	l.mu.Unlock()
	if older != nil {
		older.close(wire.CodeSuperseded, "a newer link replaces this one")
		<-older.done
	}
	now := l.n.opts.Now()
	l.note(peer, func(r *linkRecord) {
		r.state, r.since, r.lastContact = linkConnected, now, now
		r.totals.Connections++
	})
	err := d.run(ctx)
	l.mu.Lock()
	if l.live[peer] == d {
		delete(l.live, peer)
	}
	l.mu.Unlock()
	status, totals := d.snapshot()
	l.endedWith(peer, status)
	l.note(peer, func(r *linkRecord) {
		r.totals.add(totals)
		r.absorb(status)
		r.equal = false
		r.last.end(known(d.session))
		r.state, r.since = linkDown, l.n.opts.Now()
		if err != nil && !orderly(err) {
			r.lastError = err.Error()
			if refused(err) {
				r.state = linkRefused
			}
		}
	})
	close(d.done)
	if err != nil && ctx.Err() == nil {
		l.n.log.Info("link ended", "peer", string(peer), "err", err)
	}
	return d.talk.bye, err
}

// orderly reports whether a link ended for nothing that anybody should look at.
func orderly(err error) bool {
	var closed *transport.ClosedError
	return errors.As(err, &closed) && (closed.Code == wire.CodeOK || closed.Code == wire.CodeSuperseded)
}

// refused reports whether a link ended because one end does not accept the
// other, which reconnecting alone will not mend.
func refused(err error) bool {
	var closed *transport.ClosedError
	if !errors.As(err, &closed) {
		return errors.Is(err, transport.ErrRefused)
	}
	switch closed.Code {
	case wire.CodeFederation, wire.CodeAudience, wire.CodeAuthorship, wire.CodeChain,
		wire.CodeCheckpoint, wire.CodeVersion, wire.CodeUnlinked, wire.CodeRetired:
		return true
	default:
		return false
	}
}

func (t *LinkTotals) add(o LinkTotals) {
	t.SentBytes += o.SentBytes
	t.ReceivedBytes += o.ReceivedBytes
	t.SentRecords += o.SentRecords
	t.ReceivedRecords += o.ReceivedRecords
	t.SentRecordBytes += o.SentRecordBytes
	t.ReceivedRecordBytes += o.ReceivedRecordBytes
	t.BatchBytes += o.BatchBytes
	t.NeededBytes += o.NeededBytes
	t.Connections += o.Connections
}

// note changes a peer's record under the lock.
func (l *links) note(peer tiers.SiteID, f func(*linkRecord)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.known[peer]
	if r == nil {
		r = &linkRecord{state: linkDown, since: l.n.opts.Now()}
		l.known[peer] = r
	}
	state := r.state
	f(r)
	if r.state != state {
		l.standLocked()
	}
}

// broadcast tells every live link which chains grew.
func (l *links) broadcast(ctx context.Context) error {
	for {
		select {
		case <-l.n.group.Store().Changed():
		case <-ctx.Done():
			return nil
		}
		grown := l.n.group.Store().TakeGrown()
		for _, d := range l.drivers() {
			d.grew(grown)
		}
	}
}

func (l *links) drivers() []*linkDriver {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Values(l.live))
}

// closeAll ends every live link; the dialer comes back with fresh sessions.
func (l *links) closeAll(why string) {
	for _, d := range l.drivers() {
		d.close(wire.CodeOK, why)
	}
}

// LinkState is what a node knows of one of its links.
type LinkState struct {
	Peer        tiers.SiteID
	State       string
	Since       time.Time
	LastContact time.Time
	// OwedOut and OwedIn are records; both as of the last session when the
	// link is down, plus nothing for what came later.
	OwedOut, OwedIn uint64
	RTT             time.Duration
	Rates           Rates
	Totals          LinkTotals
	// Equal says that both ends hold the same now; ProvenAt is when that was
	// last shown, zero for never.
	Equal              bool
	ProvenAt           time.Time
	Digest, PeerDigest crdt.Hash
	LastError          string
	Findings           LinkFindings
}

// LinkFindings are what is out of the ordinary on a link.
type LinkFindings struct {
	// StandIn says that the link takes the place of that to the parent.
	StandIn bool
	// Disputed are the chains that fork: both ends go on without them.
	Disputed []crdt.ChainID
	// Lacks are the bits of [federation.Features] that are not in force, since one of
	// the two ends is of an older build.
	Lacks uint64
	// OneWay says that what a former parent wrote is exchanged, see
	// [federation.Exchanged]; both ends need the same topology for that.
	OneWay bool
	// Apart are chains of a former parent of which it holds less than the other end,
	// or others, for good: both ends go on without them.
	Apart []crdt.ChainID
	// Path is what the network between the two ends carries, as last seen.
	Path transport.Path
	// Refused counts what the peer sent and this site did not take, by reason;
	// nil for nothing.
	Refused map[string]uint64
}

// Links returns the state of each link that the node has or had, by peer.
func (n *Node) Links() []LinkState {
	return n.linksWhere(func(tiers.SiteID) bool { return true })
}

// Link returns the state of the link to one peer; the zero state but for the peer
// when there never was one. It costs one digest, [Node.Links] one for each link.
func (n *Node) Link(peer tiers.SiteID) LinkState {
	for _, l := range n.linksWhere(func(id tiers.SiteID) bool { return id == peer }) {
		return l
	}
	return LinkState{Peer: peer}
}

func (n *Node) linksWhere(asked func(tiers.SiteID) bool) []LinkState {
	l := n.links
	for _, d := range l.drivers() {
		if asked(d.peer) {
			status, totals := d.snapshot()
			l.note(d.peer, func(r *linkRecord) { r.absorb(status); d.live = totals })
		}
	}
	out := slices.DeleteFunc(l.states(), func(s LinkState) bool { return !asked(s.Peer) })
	for i := range out {
		// The session knew the digest at its last tick; what was written since
		// makes this end differ.
		out[i].Equal = out[i].Equal && n.linkDigest(out[i].Peer, out[i].Findings) == out[i].Digest
	}
	return out
}

// states returns what is noted of each link.
func (l *links) states() []LinkState {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []LinkState
	t := l.n.Topology()
	for _, peer := range slices.Sorted(maps.Keys(l.known)) {
		r := l.known[peer]
		state, told := r.state, l.refusals.of(peer)
		if row, listed := t.Site(peer); l.live[peer] == nil && (!listed || row.Retired) {
			if len(told) == 0 {
				continue // it will never be linked to again
			}
			state = linkRetired
		}
		totals := r.totals
		if d := l.live[peer]; d != nil {
			totals.add(d.live)
		}
		out = append(out, LinkState{
			Peer: peer, State: state, Since: r.since, LastContact: r.lastContact,
			OwedOut: r.owedOut, OwedIn: r.owedIn, RTT: r.rtt, Rates: r.last.rates, Totals: totals, Equal: r.equal,
			ProvenAt: r.provenAt, Digest: r.digest, PeerDigest: r.peerDigest, LastError: r.lastError,
			Findings: LinkFindings{
				StandIn: l.up.standIn == peer, Disputed: r.disputed, Refused: told, Lacks: r.last.lacks,
				OneWay: r.last.oneWay, Apart: r.last.apart, Path: r.last.path,
			},
		})
	}
	return out
}

// linkDigest is the digest of what this site and a peer exchange, as held now,
// without what their last session left out.
func (n *Node) linkDigest(peer tiers.SiteID, last LinkFindings) crdt.Hash {
	shared := map[tiers.StreamID]crdt.Hash{}
	for s, v := range n.sharedWith(peer, last.OneWay) {
		if v = without(s, v, last.Apart); len(v) > 0 {
			shared[s] = v.Digest(s)
		}
	}
	return crdt.LinkDigest(shared)
}

// String formats a link for messages.
func (s LinkState) String() string {
	return fmt.Sprintf("%s %s owed %d/%d equal %v", s.Peer, s.State, s.OwedOut, s.OwedIn, s.Equal)
}
