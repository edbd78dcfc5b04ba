package node

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/command"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// listenEvery is the time between two looks at which sites are heard.
const listenEvery = 5 * time.Second

// silenceType is the event type of the event that a silence opens.
const silenceType = "silence"

// listening is what a node keeps in memory of whom it hears.
type listening struct {
	mu sync.Mutex // guards the fields below
	// since is when this node began to lead; before that it heard nobody. It is zero
	// while it does not.
	since time.Time
	// newest is the time of the last record of each chain by the stream's own site, as
	// far as the chain went then: bounded by the chains that the site holds.
	newest map[crdt.ChainID]newest
}

// newest is the time of a chain's last record.
type newest struct {
	seq uint64
	at  crdt.HybridTime
}

// runSilence raises an alert for each site below that is not heard for its limit, and
// takes it back when it is, while this node leads: the links are the leader's.
func (n *Node) runSilence(ctx context.Context) error {
	return n.eachTerm(ctx, func(lead context.Context) error {
		n.listenSince(n.opts.Now())
		defer n.listenSince(time.Time{})
		ticks := time.NewTicker(listenEvery)
		defer ticks.Stop()
		for {
			err := n.silencePass(ctx)
			lost := ctx.Err() != nil || lead.Err() != nil || goesAway(err)
			switch {
			case lost:
				return nil
			case err != nil:
				return err
			}
			select {
			case <-ticks.C:
			case <-lead.Done():
				return nil
			case <-ctx.Done():
				return nil
			}
		}
	})
}

func (n *Node) listenSince(at time.Time) {
	n.listening.mu.Lock()
	defer n.listening.mu.Unlock()
	n.listening.since = at
}

// observed is who below this site is heard, what is expected of each, and what others
// say. Open are this site's own alerts that stand.
type observed struct {
	command.Observed
	limits map[tiers.SiteID]command.Limit
	open   map[tiers.SiteID][]command.SilenceView
}

// observe looks at what this node knows now. Only the leader hears by links.
func (n *Node) observe(now time.Time) (o observed, err error) {
	t, self := n.Topology(), n.creds.ID.Site
	n.listening.mu.Lock()
	since := n.listening.since
	n.listening.mu.Unlock()
	if since.IsZero() {
		since = now
	}
	o = observed{
		Observed: command.Observed{
			Self: self, NowMS: now.UnixMilli(), SinceMS: since.UnixMilli(), Limits: map[tiers.SiteID]int64{}, Said: map[tiers.SiteID]map[tiers.SiteID]bool{},
		},
		limits: map[tiers.SiteID]command.Limit{}, open: map[tiers.SiteID][]command.SilenceView{},
	}
	set, err := n.silenceLimits()
	if err != nil {
		return o, err
	}
	if o.Contacts, err = n.lastHeard(now); err != nil {
		return o, err
	}
	for _, s := range t.Sites() {
		if t.IsAncestor(self, s.ID) && !s.Retired {
			l := command.LimitOf(t, s.ID, set)
			o.limits[s.ID], o.Limits[s.ID] = l, l.AfterMS
		}
	}
	return o, n.eachView(command.IndexSilenceOpen, func(k store.DocKey, b []byte) error {
		v, err := command.SilenceFromView(b)
		if err != nil || !v.Open {
			return err
		}
		if k.Stream.Site == self {
			o.open[v.Alert.Site] = append(o.open[v.Alert.Site], v)
			return nil
		}
		if o.Said[k.Stream.Site] == nil {
			o.Said[k.Stream.Site] = map[tiers.SiteID]bool{}
		}
		o.Said[k.Stream.Site][v.Alert.Site] = true
		return nil
	})
}

// silenceLimits returns the limits of silence that sites set, as far as they are here.
func (n *Node) silenceLimits() (set []command.Limit, err error) {
	err = n.eachView(command.KindLimit, func(k store.DocKey, b []byte) error {
		l, err := command.LimitFromView(b)
		if err != nil {
			n.alarms.raise(alarmSilence, "limit "+k.String(), fmt.Sprintf("limit of silence %s is unusable: %v", k, err))
			return nil
		}
		set = append(set, l)
		return nil
	})
	return set, err
}

// lastHeard returns when each site was last heard of: by a link, or by a record that
// it wrote.
func (n *Node) lastHeard(now time.Time) (map[tiers.SiteID]command.Contact, error) {
	out := map[tiers.SiteID]command.Contact{}
	newest, err := n.newestRecords()
	if err != nil {
		return nil, err
	}
	for stream, at := range newest {
		// A clock that is ahead makes no site heard in the future.
		if ms := min(at.Millis(), now.UnixMilli()); ms > out[stream.Site].AtMS {
			out[stream.Site] = command.Contact{AtMS: ms, How: command.HeardByRecord}
		}
	}
	for _, d := range n.links.drivers() {
		status, _ := d.snapshot()
		n.links.note(d.peer, func(r *linkRecord) { r.absorb(status) })
	}
	l := n.links
	l.mu.Lock()
	defer l.mu.Unlock()
	for peer, r := range l.known {
		if live := r.state == linkConnected && l.live[peer] != nil; live || r.lastContact.UnixMilli() > out[peer].AtMS {
			out[peer] = command.Contact{AtMS: max(out[peer].AtMS, r.lastContact.UnixMilli()), Live: live, How: command.HeardByLink}
		}
	}
	return out, nil
}

// newestRecords returns the time of the last record that each stream's own site wrote
// to it. A chain is read again when it has grown.
func (n *Node) newestRecords() (map[tiers.StreamID]crdt.HybridTime, error) {
	out := map[tiers.StreamID]crdt.HybridTime{}
	x, st := &n.listening, n.group.Store()
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.newest == nil {
		x.newest = map[crdt.ChainID]newest{}
	}
	for stream, heads := range st.Vectors() {
		for a, head := range heads {
			if a.Site != stream.Site || head.Seq == 0 {
				continue
			}
			c := crdt.ChainID{Stream: stream, Author: a}
			if x.newest[c].seq != head.Seq {
				last, err := st.Span(c, head.Seq-1)
				if err != nil && !isNotFound(err) {
					return nil, err
				}
				x.newest[c] = newest{head.Seq, last.Oldest}
			}
			out[stream] = max(out[stream], x.newest[c].at)
		}
	}
	return out, nil
}

// silencePass raises and clears what has to be now.
func (n *Node) silencePass(ctx context.Context) error {
	t := n.Topology()
	if len(t.Children(n.creds.ID.Site)) == 0 {
		return nil
	}
	o, err := n.observe(n.opts.Now())
	if err != nil {
		return err
	}
	verdicts := command.Judge(t, o.Observed)
	for _, site := range slices.Sorted(maps.Keys(verdicts)) {
		v := verdicts[site]
		if v.Raises(o.Self) && len(o.open[site]) == 0 {
			if err := n.raiseSilence(ctx, o, site, v); err != nil {
				return fmt.Errorf("silence of %s: %w", site, err)
			}
		}
	}
	for site, open := range o.open {
		// Who has gone from below this site is nobody that it listens to.
		v, below := verdicts[site]
		for _, s := range open {
			if below && !v.Heard {
				continue
			}
			if err := n.clearSilence(ctx, s.ID); err != nil {
				return fmt.Errorf("end of silence of %s: %w", site, err)
			}
		}
	}
	return nil
}

// raiseSilence writes the alert of a site that is silent, once, and opens its event
// where the limit says so: not of one behind another, whose event tells of it.
func (n *Node) raiseSilence(ctx context.Context, o observed, site tiers.SiteID, v command.Verdict) error {
	a := command.Alert{Site: site, By: o.Self, SinceMS: o.Contacts[site].AtMS, LimitMS: o.Limits[site], Behind: v.Behind}
	k := docKey(o.Self, tiers.ClassUrgent, command.AlertID(o.Self, site, a.SinceMS))
	var edits []Edit
	if p := o.limits[site].Event; p != 0 && v.Behind == "" {
		r := n.silenceReport(a, p)
		if err := r.Validate(n.opts.Now()); err != nil {
			n.alarms.raise(alarmSilence, "event", fmt.Sprintf("event of the silence of %s could not be made: %v", site, err))
		} else {
			ek := docKey(o.Self, event.Class(p), command.EventID(a))
			a.Event = ek.Doc
			edits = append(edits, Edit{Key: ek, Make: func() ([]crdt.Op, error) {
				if _, err := n.group.Store().Heads(ek); !isNotFound(err) {
					return nil, err
				}
				return event.CreateOps(r)
			}})
		}
	}
	edits = append(edits, Edit{Key: k, Make: func() ([]crdt.Op, error) {
		var have command.SilenceView
		err := n.read(k, &have)
		switch {
		case isNotFound(err):
			return command.AlertOps(a, n.group.Clock().Now())
		case err != nil || have.Open:
			return nil, err
		}
		op, err := command.SilenceOp(command.SilenceStep{At: n.group.Clock().Now(), By: o.Self, Kind: command.SilenceRaised})
		return []crdt.Op{op}, err
	}})
	_, err := n.writeGood(ctx, "", nil, edits)
	return err
}

// clearSilence takes one of this site's alerts back.
func (n *Node) clearSilence(ctx context.Context, id tiers.DocID) error {
	k := docKey(n.creds.ID.Site, tiers.ClassUrgent, id)
	_, err := n.writeGood(ctx, "", nil, []Edit{{Key: k, Make: func() ([]crdt.Op, error) {
		var have command.SilenceView
		if err := n.read(k, &have); err != nil || !have.Open {
			return nil, err
		}
		op, err := command.SilenceOp(command.SilenceStep{At: n.group.Clock().Now(), By: have.Site, Kind: command.SilenceCleared})
		return []crdt.Op{op}, err
	}}})
	return err
}

// silenceReport is the event that a silence opens.
func (n *Node) silenceReport(a command.Alert, priority int) event.Report {
	row, _ := n.Topology().Site(a.Site)
	since := "never heard"
	if a.SinceMS != 0 {
		since = "not heard since " + time.UnixMilli(a.SinceMS).UTC().Format(time.RFC3339)
	}
	return event.Report{
		SourceKey: a.SourceKey(), Type: silenceType, Title: fmt.Sprintf("%s %s %s", row.Tier, a.Site, since), Priority: priority,
		Text:  fmt.Sprintf("%s (%s) is silent for more than %s: %s", row.Name, a.Site, time.Duration(a.LimitMS)*time.Millisecond, since),
		Place: row.Name, Channel: "silence", ReportedAtMS: n.opts.Now().UnixMilli(),
	}
}

// SetSilence sets the limit of silence of a site or a tier below this one. The error
// wraps [command.ErrInvalid].
func (n *Node) SetSilence(ctx context.Context, key string, l command.Limit) (replication.Written, error) {
	t, self := n.Topology(), n.creds.ID.Site
	ops, err := command.LimitOps(l)
	if err == nil && l.Site != "" && !t.IsAncestor(self, l.Site) {
		err = fmt.Errorf("%w: site %.64q: want one below %s", command.ErrInvalid, l.Site, self)
	}
	if row, _ := t.Site(self); err == nil && l.Tier != 0 && l.Tier <= row.Tier {
		err = fmt.Errorf("%w: tier %s: want one below that of %s, which is a %s", command.ErrInvalid, l.Tier, self, row.Tier)
	}
	if err != nil {
		return replication.Written{}, err
	}
	done, err := n.docs.write(ctx, key, Edit{Key: docKey(self, tiers.ClassControl, l.Doc()), Ops: ops})
	if err != nil {
		return replication.Written{}, err
	}
	return done[0], nil
}
