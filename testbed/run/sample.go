package run

import (
	"context"
	"strings"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/testbed/report"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/federation"
)

// samplesMax bounds the samples of a run: when there are as many, every other one
// is dropped and the time between two doubles.
const samplesMax = 400

// laneNames names each lane by its classes.
var laneNames = func() (names [tiers.LaneCount]string) {
	for _, c := range tiers.Classes() {
		names[c.Lane()] = strings.TrimPrefix(names[c.Lane()]+", "+c.String(), ", ")
	}
	return names
}()

// sample looks at the federation again and again until ctx ends, and once then.
func (p *player) sample(ctx context.Context) {
	every := max(100*time.Millisecond, time.Duration(len(p.tree.rows()))*2*time.Millisecond)
	for {
		over := ctx.Err() != nil
		p.lookAtOrders()
		s := p.takeSample(context.WithoutCancel(ctx))
		p.o.Progress.Sample(s)
		p.mu.Lock()
		p.data.Samples = append(p.data.Samples, s)
		if len(p.data.Samples) >= samplesMax {
			kept := p.data.Samples[:0]
			for i := 0; i < len(p.data.Samples); i += 2 {
				kept = append(kept, p.data.Samples[i])
			}
			p.data.Samples = kept
			every *= 2
		}
		p.mu.Unlock()
		if over {
			return
		}
		_ = wait(ctx, every) // one more sample when ctx ends
	}
}

func (p *player) takeSample(ctx context.Context) report.Sample {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	s := report.Sample{AtS: p.since(), Owed: map[string]uint64{}}
	s.Reported, s.Acknowledged = p.ledger.counts()
	use := p.w.Usage()
	s.WireBytes, s.RSSMB = use.WireBytes, float64(use.RSSBytes)/(1<<20)
	links := p.tree.links()
	s.Links = len(links)
	pass := newPass(p)
	for _, l := range links {
		st, err := pass.status(ctx, l.child)
		if err == nil {
			if up := linkOf(st, l.parent); up.State == "connected" {
				s.Connected++
				if up.Equal {
					s.Equal++
					p.judge.equal(l.child)
					continue
				}
			}
		}
		p.addOwed(ctx, l, s.Owed)
	}
	return s
}

// addOwed adds what the two ends of a link lack of each other, by lane: by their
// stores where these can be read, else as the child says.
func (p *player) addOwed(ctx context.Context, l treeLink, owed map[string]uint64) {
	child, err := p.w.Read(l.child)
	parent, also := p.w.Read(l.parent)
	if err != nil || also != nil {
		p.addShown(ctx, l, owed)
		return
	}
	t := p.tree.topology()
	add := func(s tiers.StreamID, author tiers.SiteID, of, at crdt.Vector) {
		for a, h := range of {
			if author != "" && a.Site != author {
				continue
			}
			if have := at[a].Seq; have < h.Seq {
				owed[laneNames[s.Class.Lane()]] += h.Seq - have
			}
		}
	}
	for _, ends := range [][2]tiers.SiteID{{l.child, l.parent}, {l.parent, l.child}} {
		of, at := child.Store, parent.Store
		if ends[0] == l.parent {
			of, at = at, of
		}
		for _, s := range of.Streams() {
			if author, ok := federation.Exchanged(t, s, ends[0], ends[1]); ok && author != ends[1] {
				add(s, author, of.Vector(s), at.Vector(s))
			}
		}
	}
}

func (p *player) addShown(ctx context.Context, l treeLink, owed map[string]uint64) {
	s, err := p.w.Site(l.child)
	if err != nil {
		return
	}
	st, err := s.SyncStatus(ctx, api.SyncQuery{Peer: l.parent, Streams: true})
	if err != nil {
		return
	}
	for _, link := range st.Links {
		for _, x := range link.Streams {
			if x.Lane >= 0 && x.Lane < len(laneNames) {
				owed[laneNames[x.Lane]] += x.Out.Records + x.In.Records
			}
		}
	}
}
