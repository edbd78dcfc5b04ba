package node

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/engine"
	"github.com/tiermesh/tiermesh/crdt/reading"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/catalog"
	"github.com/tiermesh/tiermesh/tiers/command"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
	"github.com/tiermesh/tiermesh/tiers/event"
	"github.com/tiermesh/tiermesh/tiers/federation"
	"github.com/tiermesh/tiermesh/tiers/indicator"
	"github.com/tiermesh/tiermesh/tiers/responder"
	"github.com/tiermesh/tiermesh/tiers/track"
)

// backend shows a node to its API. It only translates.
type backend struct{ n *Node }

var _ api.Backend = backend{}

// translate maps this side's errors to the API's; the one place that does.
func translate(err error) error {
	for _, t := range []struct {
		from, to error
	}{
		{event.ErrInvalid, api.ErrInvalid}, {event.ErrNotNow, api.ErrRejected}, {track.ErrInvalid, api.ErrInvalid}, {track.ErrNotNow, api.ErrRejected}, {tiers.ErrInvalidID, api.ErrInvalid},
		{tiers.ErrInvalidTopology, api.ErrInvalid}, {tiers.ErrStaleTopology, api.ErrRejected}, {ErrNotCity, api.ErrRejected},
		{store.ErrNotFound, api.ErrNotFound}, {ErrExists, api.ErrRejected}, {engine.ErrTooLarge, api.ErrRejected}, {engine.ErrPoisoned, api.ErrRejected}, {engine.ErrEngine, api.ErrRejected}, {ErrHeldBack, api.ErrUnavailable}, {crdt.ErrUnavailable, api.ErrUnavailable}, {replication.ErrTooLarge, api.ErrInvalid}, {replication.ErrMember, api.ErrRejected}, {replication.ErrFormat, api.ErrRejected}, {replication.ErrRepair, api.ErrRejected}, {ErrNotWriter, api.ErrRejected}, {ErrAmbiguous, api.ErrRejected},
		{responder.ErrInvalid, api.ErrInvalid}, {responder.ErrNow, api.ErrRejected}, {responder.ErrFenced, api.ErrRejected}, {dispatch.ErrInvalid, api.ErrInvalid},
		{store.ErrHeld, api.ErrRejected}, {store.ErrFenced, api.ErrRejected}, {store.ErrBadClaim, api.ErrInvalid},
		{federation.ErrBundle, api.ErrInvalid}, {federation.ErrForeign, api.ErrInvalid}, {store.ErrGap, api.ErrRejected},
		{dispatch.ErrInvalid, api.ErrInvalid}, {dispatch.ErrNotNow, api.ErrRejected}, {ErrNoStream, api.ErrInvalid},
		{command.ErrInvalid, api.ErrInvalid}, {command.ErrNow, api.ErrRejected},
		{indicator.ErrInvalid, api.ErrInvalid}, {reading.ErrInvalid, api.ErrInvalid}, {ErrDefined, api.ErrRejected},
		{catalog.ErrInvalid, api.ErrInvalid}, {catalog.ErrNow, api.ErrRejected},
		{ErrBusy, api.ErrRejected}, {store.ErrBadChange, api.ErrRejected},
		{replication.ErrUnknown, api.ErrUnknownOutcome}, {replication.ErrNotLeader, api.ErrUnavailable},
		{replication.ErrClosed, api.ErrUnavailable},
	} {
		if errors.Is(err, t.from) {
			return fmt.Errorf("%w: %w", t.to, err)
		}
	}
	return err
}

// Status implements [api.Backend].
func (b backend) Status(context.Context) (api.Status, error) {
	n := b.n
	t := n.Topology()
	self, _ := t.Site(n.creds.ID.Site)
	counts := n.group.Store().Counts()
	s := api.Status{
		Site: n.creds.ID.Site, Name: self.Name, Tier: self.Tier.String(), Node: n.creds.ID.Node, Federation: n.creds.ID.Federation,
		Incarnation: n.group.Store().Incarnation(), TopologyVersion: t.Version(),
		AppliedIndex: n.group.Store().AppliedIndex(), Records: counts.Records, ViewsDirty: counts.Dirty,
		Refused: counts.Refused, UptimeS: n.opts.Now().Sub(n.ending.started).Seconds(),
		Findings: api.Findings{Alarms: n.alarms.all(), Forks: []api.ForkStatus{}, CertificateEnds: stamp(n.endpoint.Credentials().Certificate.Leaf.NotAfter)},
		Links:    []api.LinkStatus{},
	}
	s.Role = n.role()
	for _, l := range n.Links() {
		s.Links = append(s.Links, linkStatusOf(t, l))
	}
	asides, err := n.group.Store().Asides()
	if err != nil { // a damaged node says how it is all the same
		s.Alarms = append(s.Alarms, fmt.Sprintf("what was set aside cannot be read: %v; run: tiermesh scrub", err))
	}
	for _, a := range asides {
		s.Forks = append(s.Forks, api.ForkStatus{
			Stream: a.Chain.Stream.String(), Author: a.Chain.Author.String(), Kept: a.Kept, Aside: a.Records,
		})
	}
	return s, nil
}

func linkStatusOf(t *tiers.Topology, l LinkState) api.LinkStatus {
	peer, _ := t.Site(l.Peer)
	out := api.LinkStatus{
		Peer: l.Peer, PeerName: peer.Name, State: l.State, Since: l.Since, LastContact: stamp(l.LastContact),
		OwedOut: l.OwedOut, OwedIn: l.OwedIn, SentBytes: l.Totals.SentBytes, ReceivedBytes: l.Totals.ReceivedBytes,
		RTTMS: float64(l.RTT) / float64(time.Millisecond), Equal: l.Equal, ProvenEqualAt: stamp(l.ProvenAt),
		Digest: hex.EncodeToString(l.Digest[:]), LastError: l.LastError,
		LinkFindings: api.LinkFindings{
			StandIn: l.Findings.StandIn, Refused: l.Findings.Refused,
			PacketBytes: l.Findings.Path.PacketBytes, Path: l.Findings.Path.Note,
		},
	}
	for _, c := range l.Findings.Disputed {
		out.Disputed = append(out.Disputed, c.String())
	}
	return out
}

// role is leader, follower, non-voter, or joining while the node belongs to no
// group, or no longer.
func (n *Node) role() string {
	if n.group.Leads() {
		return "leader"
	}
	members, err := n.group.Members()
	i := slices.IndexFunc(members, func(m replication.Member) bool { return m.ID == n.group.ID() })
	switch {
	case err != nil || i < 0:
		return "joining"
	case members[i].Voter:
		return "follower"
	default:
		return "non-voter"
	}
}

func stamp(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// Alarms implements [api.Backend].
func (b backend) Alarms(context.Context) (api.AlarmList, error) { return b.n.alarms.listed(), nil }

// Acknowledge implements [api.Backend].
func (b backend) Acknowledge(_ context.Context, a api.AlarmAck) (api.AlarmList, error) {
	if err := b.n.alarms.acknowledge(a); err != nil {
		return api.AlarmList{}, err
	}
	b.n.log.Info("alarms acknowledged", "ids", a.IDs, "who", a.Who, "note", a.Note)
	return b.n.alarms.listed(), nil
}

// Report implements [api.Backend].
func (b backend) Report(ctx context.Context, r api.ReportRequest) (api.WriteResult, error) {
	w, err := b.n.TakeIn(ctx, Incoming{Key: "api:" + r.Key, Item: event.Item{Raw: r.Raw, ID: r.ID, Report: r.Report, Err: r.Unread}, Quarantine: r.Quarantine})
	return api.WriteResult{ID: w.Doc, Stream: w.Stream.String(), Seq: w.Seq, Held: w.Held, Field: w.Field}, translate(err)
}

// EditTrack implements [api.Backend].
func (b backend) EditTrack(ctx context.Context, r api.EditRequest) (api.WriteResult, error) {
	ops, err := track.EditOps(r.Fields)
	if err != nil {
		return api.WriteResult{}, translate(err)
	}
	if r.Confirm {
		ops = crdt.Confirmed(ops)
	}
	stream := tiers.StreamID{Site: r.Site, Class: tiers.ClassCatalog}
	doc := tiers.NewDocID(track.Kind, r.Code)
	w, err := b.n.Edit(ctx, "api:"+r.Key, stream, doc, ops)
	return api.WriteResult{ID: doc, Stream: stream.String(), Seq: w.Seq}, translate(err)
}

// Topology implements [api.Backend].
func (b backend) Topology(context.Context) (tiers.TopologyDoc, error) {
	return b.n.Topology().Doc(), nil
}

// PublishTopology implements [api.Backend].
func (b backend) PublishTopology(ctx context.Context, r api.TopologyRequest) (api.TopologyResult, error) {
	base := b.n.Topology().Version()
	if r.Base != 0 && r.Base != base {
		return api.TopologyResult{}, fmt.Errorf("%w: version %d is in force, not %d: look at it and try again", api.ErrRejected, base, r.Base)
	}
	next, diff, err := b.n.PublishTopology(ctx, "api:"+r.Key, r.Topology, r.DryRun)
	if err != nil {
		return api.TopologyResult{}, translate(err)
	}
	return api.TopologyResult{Base: base, Version: next.Version(), Published: !r.DryRun, Diff: diff}, nil
}

// Backup implements [api.Backend].
func (b backend) Backup(_ context.Context, w io.Writer) error { return b.n.group.Backup(w) }

// Scrub implements [api.Backend].
func (b backend) Scrub(ctx context.Context) (api.ScrubReport, error) {
	began := b.n.opts.Now()
	r, err := b.n.scrub(ctx)
	out := api.ScrubReport{
		Chains: r.Chains, Records: r.Records, Checkpoints: r.Checkpoints, Documents: r.Documents,
		TookS: b.n.opts.Now().Sub(began).Seconds(), Findings: scrubFindings(r.Findings),
	}
	return out, translate(err)
}

// Repair implements [api.Backend].
func (b backend) Repair(ctx context.Context, r api.RepairRequest) (api.RepairReport, error) {
	out, err := b.n.repair(ctx, r.From)
	return out, translate(err)
}

// newestFirst are the kinds whose index is by time.
var newestFirst = map[string]bool{"event": true, "task": true, responder.KindRequest: true, command.KindSilence: true}

// List implements [api.Backend].
func (b backend) List(_ context.Context, q api.ListQuery) (api.Page, error) {
	after, err := parseCursor(q.After)
	if err != nil {
		return api.Page{}, err
	}
	page := api.Page{Items: []json.RawMessage{}}
	query := store.IndexQuery{Name: q.Kind, Descending: newestFirst[q.Kind], After: after, Limit: q.Limit}
	for {
		hits, err := b.n.group.Store().Index(query)
		if err != nil {
			return api.Page{}, err
		}
		for _, h := range hits {
			if len(page.Items) == q.Limit {
				return page, nil
			}
			query.After, page.Next = &h, cursor(h)
			if q.Site != "" && h.Key.Stream.Site != q.Site {
				continue
			}
			v, err := b.n.views.View(h.Key)
			if err != nil {
				return api.Page{}, translate(err)
			}
			page.Items = append(page.Items, b.n.shown(h.Key, v.JSON))
		}
		if len(hits) < q.Limit {
			page.Next = ""
			return page, nil
		}
		if len(page.Items) == q.Limit {
			return page, nil
		}
	}
}

// cursor encodes where a page ended.
func cursor(h store.IndexHit) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strings.Join([]string{
		h.Value, string(h.Key.Stream.Site), h.Key.Stream.Class.String(), string(h.Key.Doc),
	}, "\x00")))
}

func parseCursor(s string) (*store.IndexHit, error) {
	if s == "" {
		return nil, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(s)
	p := strings.Split(string(raw), "\x00")
	if err != nil || len(p) != 4 {
		return nil, fmt.Errorf("%w: after %q is not a page's next", api.ErrInvalid, s)
	}
	class, err := tiers.ParseClass(p[2])
	if err != nil {
		return nil, fmt.Errorf("%w: after: %w", api.ErrInvalid, err)
	}
	return &store.IndexHit{Value: p[0], Key: docKey(tiers.SiteID(p[1]), class, tiers.DocID(p[3]))}, nil
}

// View implements [api.Backend]: the name is looked up in every stream that
// this site holds, which a document of that name may stand in; a full name says which.
func (b backend) View(_ context.Context, kind, name string) ([]json.RawMessage, error) {
	doc, err := b.n.resolve(kind, name)
	if err != nil {
		return nil, translate(err)
	}
	keys, err := b.n.keysOf(doc)
	if err != nil {
		return nil, translate(err)
	}
	var out []json.RawMessage
	for _, k := range keys {
		v, err := b.n.views.View(k)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, translate(err)
		}
		out = append(out, b.n.shown(k, v.JSON))
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: this site holds no %s", api.ErrNotFound, doc)
	}
	return out, nil
}
