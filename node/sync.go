package node

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/federation"
)

var _ api.Sync = backend{}

// Prove implements [api.Sync].
func (b backend) Prove(ctx context.Context, peer tiers.SiteID) (api.ProveResult, error) {
	if err := b.n.checkOther(peer); err != nil {
		return api.ProveResult{}, err
	}
	out, err := b.n.prove(ctx, peer)
	return out, translate(err)
}

// ExportBundle implements [api.Sync].
func (b backend) ExportBundle(ctx context.Context, q api.ExportQuery, w io.Writer) error {
	return translate(b.n.exportBundle(ctx, q, w))
}

// ImportBundle implements [api.Sync].
func (b backend) ImportBundle(ctx context.Context, r io.Reader) (api.ImportReport, error) {
	out, err := b.n.importBundle(ctx, r)
	return out, translate(err)
}

// RequestBundle implements [api.Sync].
func (b backend) RequestBundle(_ context.Context, from tiers.SiteID, w io.Writer) error {
	return translate(b.n.requestBundle(from, w))
}

// driver returns the live link to a peer, or nil.
func (l *links) driver(peer tiers.SiteID) *linkDriver {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.live[peer]
}

// chainsWait bounds how long a session is waited for that is busy.
const chainsWait = 2 * time.Second

// chainsOf returns what is known of a peer's chains, and where from.
func (n *Node) chainsOf(ctx context.Context, peer tiers.SiteID) ([]federation.ChainState, string) {
	if d := n.links.driver(peer); d != nil {
		ctx, cancel := context.WithTimeout(ctx, chainsWait)
		defer cancel()
		if states := d.chains(ctx); states != nil {
			return states, api.BasisLive
		}
	}
	n.links.mu.Lock()
	defer n.links.mu.Unlock()
	if r := n.links.known[peer]; r != nil && r.last.chains != nil {
		return r.last.chains, api.BasisLast
	}
	return nil, api.BasisNothing
}

// SyncStatus implements [api.Sync].
func (b backend) SyncStatus(ctx context.Context, q api.SyncQuery) (api.SyncStatus, error) {
	n := b.n
	out := api.SyncStatus{Site: n.creds.ID.Site, Time: n.opts.Now(), Links: []api.LinkSync{}}
	if q.Peer != "" {
		if err := n.checkOther(q.Peer); err != nil {
			return out, err
		}
	}
	states := map[tiers.SiteID]LinkState{}
	for _, l := range n.Links() {
		states[l.Peer] = l
	}
	peers := slices.Sorted(maps.Keys(states))
	t := n.Topology()
	self, _ := t.Site(out.Site)
	for _, neighbour := range append([]tiers.SiteID{self.Parent}, t.Children(out.Site)...) {
		if _, met := states[neighbour]; neighbour != "" && !met {
			peers = append(peers, neighbour)
		}
	}
	slices.Sort(peers)
	for _, peer := range peers {
		if q.Peer != "" && q.Peer != peer {
			continue
		}
		l, err := n.linkSync(ctx, peer, states[peer], q.Streams)
		if err != nil {
			return out, translate(err)
		}
		out.Links = append(out.Links, l)
	}
	if q.Peer != "" && len(out.Links) == 0 {
		return out, fmt.Errorf("%w: there never was a link to site %s", api.ErrNotFound, q.Peer)
	}
	return out, nil
}

// linkNever is the state of a neighbour in the topology that was never linked to.
const linkNever = "never"

func (n *Node) linkSync(ctx context.Context, peer tiers.SiteID, l LinkState, streams bool) (api.LinkSync, error) {
	row, _ := n.Topology().Site(peer)
	out := api.LinkSync{
		Peer: peer, PeerName: row.Name, State: l.State, Since: stamp(l.Since), LastContact: stamp(l.LastContact),
		RTTMS: float64(l.RTT) / float64(time.Millisecond), Rate: api.Rate(l.Rates),
		Equal: l.Equal, ProvenEqualAt: stamp(l.ProvenAt), LastError: l.LastError,
	}
	if l.Peer == "" {
		out.State = linkNever
	}
	d, err := n.difference(ctx, peer)
	if err != nil {
		return out, err
	}
	out.Basis = d.basis
	if d.basis != api.BasisNothing {
		var sum streamDiff
		for _, s := range d.streams {
			sum.out.add(s.out)
			sum.in.add(s.in)
		}
		out.Out, out.In = &sum.out.Owed, &sum.in.Owed
	}
	if streams {
		for _, s := range d.streams {
			out.Streams = append(out.Streams, api.StreamSync{
				Stream: s.stream.String(), Lane: int(s.stream.Class.Lane()), State: s.state, Out: s.out.Owed, In: s.in.Owed,
			})
		}
	}
	return out, nil
}

// owed adds up what one end lacks.
type owed struct{ api.Owed }

func (o *owed) add(p owed) {
	o.Records += p.Records
	o.Bytes += p.Bytes
	o.BytesEstimated = o.BytesEstimated || p.BytesEstimated
	if p.Oldest != nil && (o.Oldest == nil || p.Oldest.Before(*o.Oldest)) {
		o.Oldest = p.Oldest
	}
}

// streamDiff is how two sites differ in one stream.
type streamDiff struct {
	stream  tiers.StreamID
	state   string
	out, in owed
}

// The states of a stream on a link.
const (
	streamEqual   = "equal"
	streamOwed    = "owed"
	streamForked  = "forked"
	streamUnknown = "unknown"
)

// linkDiff is how two sites differ, as far as this one knows.
type linkDiff struct {
	basis   string
	streams []streamDiff // in lane order
}

// difference sets what this site holds now against what a peer is known to hold.
func (n *Node) difference(ctx context.Context, peer tiers.SiteID) (linkDiff, error) {
	t, self := n.Topology(), n.creds.ID.Site
	states, basis := n.chainsOf(ctx, peer)
	out := linkDiff{basis: basis}
	local := federation.Shared(t, self, peer, n.group.Store().Vectors())
	theirs := map[crdt.ChainID]crdt.Head{}
	chains := map[tiers.StreamID]map[crdt.Author]struct{}{}
	note := func(c crdt.ChainID) {
		if chains[c.Stream] == nil {
			chains[c.Stream] = map[crdt.Author]struct{}{}
		}
		chains[c.Stream][c.Author] = struct{}{}
	}
	for _, c := range states {
		if author, ok := federation.Exchanged(t, c.Chain.Stream, self, peer); ok && (author == "" || author == c.Chain.Author.Site) {
			theirs[c.Chain] = c.Peer
			note(c.Chain)
		}
	}
	for stream, v := range local {
		for author := range v {
			note(crdt.ChainID{Stream: stream, Author: author})
		}
	}
	apart := n.links.apart(peer)
	for _, stream := range slices.SortedFunc(maps.Keys(chains), tiers.StreamID.Compare) {
		s := streamDiff{stream: stream, state: streamEqual}
		sole, _ := federation.Exchanged(t, stream, self, peer)
		for author := range chains[stream] {
			chain := crdt.ChainID{Stream: stream, Author: author}
			if slices.Contains(apart, chain) {
				s.state = streamForked
				continue
			}
			if sole == peer && local[stream][author].Seq > theirs[chain].Seq {
				continue // nothing is owed to a former parent
			}
			if err := n.chainDiff(&s, chain, local[stream][author], theirs[chain]); err != nil {
				return out, err
			}
		}
		if basis == api.BasisNothing {
			s = streamDiff{stream: stream, state: streamUnknown}
		}
		out.streams = append(out.streams, s)
	}
	return out, nil
}

// recordBytesGuess stands in for the mean of a chain of which nothing is held.
const recordBytesGuess = 512

func (n *Node) chainDiff(s *streamDiff, chain crdt.ChainID, mine, theirs crdt.Head) error {
	st := n.group.Store()
	switch {
	case mine.Seq > theirs.Seq:
		span, err := st.Span(chain, theirs.Seq)
		if err != nil {
			return err
		}
		oldest := span.Oldest.Time()
		s.out.add(owed{api.Owed{Records: span.Records, Bytes: span.Bytes, BytesEstimated: span.Estimated, Oldest: &oldest}})
	case theirs.Seq > mine.Seq:
		mean := float64(recordBytesGuess)
		if records, size := st.Size(chain); records > 0 {
			mean = float64(size) / float64(records)
		}
		lacks := theirs.Seq - mine.Seq
		s.in.add(owed{api.Owed{Records: lacks, Bytes: uint64(mean * float64(lacks)), BytesEstimated: true}})
	case mine.Hash != theirs.Hash:
		s.state = streamForked
	}
	if mine.Seq != theirs.Seq && s.state != streamForked {
		s.state = streamOwed
	}
	return nil
}

// Forecast implements [api.Sync].
func (b backend) Forecast(ctx context.Context, q api.ForecastQuery) (api.Forecast, error) {
	n := b.n
	out := api.Forecast{Site: n.creds.ID.Site, Peer: q.Peer}
	if err := n.checkOther(q.Peer); err != nil {
		return out, err
	}
	d, err := n.difference(ctx, q.Peer)
	if err != nil {
		return out, translate(err)
	}
	if d.basis == api.BasisNothing {
		return out, fmt.Errorf("%w: site %s was not heard since this node started, so what it holds is unknown", api.ErrUnavailable, q.Peer)
	}
	out.Basis = d.basis
	for _, l := range n.Links() {
		if l.Peer == q.Peer {
			out.Rate, out.RTTMS = api.Rate(l.Rates), float64(l.RTT)/float64(time.Millisecond)
		}
	}
	out.RateSource = "measured"
	if q.RateBPS != 0 {
		out.Rate.OutLast, out.Rate.InLast, out.RateSource = q.RateBPS, q.RateBPS, "given"
	} else if out.Rate.OutLast == 0 && out.Rate.InLast == 0 {
		out.RateSource = "unknown"
	}
	out.Lanes = forecastLanes(d, out.Rate, out.RTTMS/1000)
	return out, nil
}

// forecastLanes adds streams up to lanes. A lane begins when the ones above it
// are done; the first records move one round trip after the link is up.
func forecastLanes(d linkDiff, rate api.Rate, rttS float64) []api.LaneForecast {
	var lanes [tiers.LaneCount]struct{ out, in owed }
	for _, s := range d.streams {
		lanes[s.stream.Class.Lane()].out.add(s.out)
		lanes[s.stream.Class.Lane()].in.add(s.in)
	}
	outward, inward := clock{s: rttS, bps: rate.OutLast}, clock{s: rttS, bps: rate.InLast}
	out := make([]api.LaneForecast, tiers.LaneCount)
	for lane := range out {
		l := &lanes[lane]
		out[lane] = api.LaneForecast{
			Lane: lane, Classes: classesOf(tiers.Lane(lane)),
			Out: api.Move{Owed: l.out.Owed, DoneS: outward.move(l.out)},
			In:  api.Move{Owed: l.in.Owed, DoneS: inward.move(l.in)},
		}
	}
	return out
}

// clock tells when lane after lane is done.
type clock struct {
	s, bps  float64
	unknown bool
}

// move returns when what is owed has moved; nil when no rate says so.
func (c *clock) move(o owed) *float64 {
	if c.unknown = c.unknown || o.Bytes > 0 && c.bps == 0; c.unknown {
		return nil
	}
	if o.Bytes > 0 {
		c.s += float64(o.Bytes) / c.bps
	}
	s := c.s
	return &s
}

func classesOf(lane tiers.Lane) []string {
	var out []string
	for _, c := range tiers.Classes() {
		if c.Lane() == lane {
			out = append(out, c.String())
		}
	}
	return out
}
