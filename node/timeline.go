package node

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
	"github.com/tiermesh/tiermesh/tiers/event"
	"github.com/tiermesh/tiermesh/tiers/review"
)

// Timeline implements [api.Backend].
func (b backend) Timeline(ctx context.Context, name string) (api.Timeline, error) {
	n := b.n
	keys, err := n.eventKeys(tiers.OfKind(event.Kind, name))
	if err != nil {
		return api.Timeline{}, translate(err)
	}
	self := n.creds.ID.Site
	out := api.Timeline{By: self, AtMS: n.opts.Now().UnixMilli(), Timeline: review.Timeline{Event: keys[0].Doc, Asked: []tiers.SiteID{self}}}
	x := timeline{n: n, t: &out.Timeline, holds: n.peersHold(ctx)}
	done := map[tiers.DocID]bool{}
	for _, k := range keys {
		tasks, err := x.event(k)
		if err != nil {
			return out, translate(err)
		}
		for _, task := range tasks {
			if done[task] {
				continue
			}
			done[task] = true
			keys, err := n.keysOf(task)
			if err != nil {
				return out, translate(err)
			}
			for _, k := range keys {
				if err := x.document(k); err != nil {
					return out, translate(err)
				}
			}
		}
	}
	out.Timeline = review.Merge(out.Timeline)
	return out, nil
}

// peersHold returns how much of each chain the sites hold that this one is linked
// to, or was last.
func (n *Node) peersHold(ctx context.Context) map[tiers.SiteID]map[crdt.ChainID]uint64 {
	out := map[tiers.SiteID]map[crdt.ChainID]uint64{}
	for _, l := range n.links.states() {
		states, _ := n.chainsOf(ctx, l.Peer)
		for _, c := range states {
			if out[l.Peer] == nil {
				out[l.Peer] = map[crdt.ChainID]uint64{}
			}
			out[l.Peer][c.Chain] = c.Peer.Seq
		}
	}
	return out
}

// timeline is one in the making.
type timeline struct {
	n     *Node
	t     *review.Timeline
	holds map[tiers.SiteID]map[crdt.ChainID]uint64
}

// event adds what was done to an event's document and returns its tasks.
func (x *timeline) event(k store.DocKey) ([]tiers.DocID, error) {
	v, err := x.n.views.View(k)
	if err != nil {
		return nil, err
	}
	var e event.View
	if err := json.Unmarshal(v.JSON, &e); err == nil {
		x.t.Title = e.Report.Title
	}
	return e.Tasks, x.document(k)
}

// document adds what was done to one document.
func (x *timeline) document(k store.DocKey) error {
	h, changes, err := reviewed(x.n.group.Store(), x.n.creds.ID.Site, k)
	if err != nil {
		return err
	}
	what, notes, err := x.n.whatWasDone(k, h)
	if err != nil {
		return err
	}
	for _, s := range x.n.Topology().Audience(k.Stream) {
		if !slices.Contains(x.t.Sites, s) {
			x.t.Sites = append(x.t.Sites, s)
		}
	}
	proved := map[tiers.SiteID][]crdt.HybridTime{}
	for _, s := range x.t.Sites {
		proved[s] = review.HadBy(changes, s)
	}
	for i, c := range changes {
		s := review.Step{
			AtMS: c.At.Millis(), At: c.At, By: c.Author.Site, Incarnation: c.Author.Incarnation, Stream: k.Stream.String(), Seq: c.Seq,
			Doc: k.Doc, What: what[i], Note: notes[i], Learnt: map[tiers.SiteID]review.Learnt{},
		}
		for _, site := range x.t.Sites {
			if l, ok := x.learnt(k, c, site, proved[site][i]); ok {
				s.Learnt[site] = l
			}
		}
		x.t.Steps = append(x.t.Steps, s)
	}
	return nil
}

// learnt is when a site learnt of a change, as far as it is known here.
func (x *timeline) learnt(k store.DocKey, c review.Change, site tiers.SiteID, proved crdt.HybridTime) (review.Learnt, bool) {
	switch {
	case site == c.Author.Site:
		return review.Learnt{AtMS: c.At.Millis(), Basis: review.BasisWrote}, true
	case site == x.n.creds.ID.Site && c.Learnt != 0:
		return review.Learnt{AtMS: c.Learnt.Millis(), Basis: review.BasisArrived}, true
	case proved != 0:
		return review.Learnt{AtMS: proved.Millis(), Basis: review.BasisBy}, true
	case site == x.n.creds.ID.Site, x.holds[site][crdt.ChainID{Stream: k.Stream, Author: c.Author}] >= c.Seq:
		return review.Learnt{Basis: review.BasisHolds}, true
	default:
		return review.Learnt{}, false
	}
}

// The names of changes that hold no action.
const (
	didReport   = "report"
	didDispatch = "dispatch task"
	didCorrect  = "correct"
	didChange   = "change"
)

// whatWasDone names what each change of a document did, by index.
func (n *Node) whatWasDone(k store.DocKey, h *store.Changes) (what [][]string, notes []string, err error) {
	what, notes = make([][]string, len(h.Raw)), make([]string, len(h.Raw))
	doc, err := n.views.Read(h)
	if errors.Is(err, crdt.ErrUnavailable) {
		return nil, nil, err
	}
	if err == nil {
		index := map[crdt.Hash]int{}
		for i, c := range doc.Changes {
			index[c.Hash] = i
		}
		for _, f := range doc.Root.Fields {
			for _, w := range f.Values {
				nameWritten(doc, index, f.Key, w.Node, what, notes)
			}
		}
	}
	for i := range what {
		switch {
		case i == 0 && k.Doc.Kind() == event.Kind:
			what[i] = append([]string{didReport}, what[i]...)
		case i == 0 && k.Doc.Kind() == dispatch.KindTask:
			what[i] = append([]string{didDispatch}, what[i]...)
		case len(what[i]) == 0:
			what[i] = []string{didChange}
		}
	}
	return what, notes, nil
}

// nameWritten names the actions of a list and the corrections of a map.
func nameWritten(doc *crdt.Document, index map[crdt.Hash]int, key string, node crdt.Node, what [][]string, notes []string) {
	for _, it := range node.Items {
		c, ok := doc.ChangeOf(it)
		text, isText := it.Node.Scalar.(string)
		var a struct {
			Kind  string       `json:"kind"`
			Organ string       `json:"organ"`
			To    tiers.SiteID `json:"to"`
			Note  string       `json:"note"`
		}
		if !ok || !isText || json.Unmarshal([]byte(text), &a) != nil || a.Kind == "" {
			continue
		}
		i := index[c.Hash]
		what[i] = append(what[i], strings.TrimSpace(strings.Join([]string{a.Kind, a.Organ, string(a.To)}, " ")))
		notes[i] = strings.TrimSpace(notes[i] + " " + a.Note)
	}
	for _, f := range node.Fields {
		for _, w := range f.Values {
			if c, ok := doc.ChangeOf(w); ok {
				i := index[c.Hash]
				what[i] = append(what[i], didCorrect+" "+key+"."+f.Key)
			}
		}
	}
}
