package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/replication/view"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// Duplicates says when a site suspects two reports to be of one thing.
type Duplicates struct {
	// Metres is how far apart they may be, up to 200; zero means 200.
	Metres float64 `json:"metres,omitempty"`
	// Within is the time between them, such as "2h", up to "24h"; empty means 2h.
	Within string `json:"within,omitempty"`
	// Merge lets the site merge two without asking when channel and source key are
	// equal, or the reporter and the text are.
	Merge bool `json:"merge,omitempty"`
}

// Validate reports a value out of range. The error wraps [ErrConfig].
func (d Duplicates) Validate() error {
	if !(d.Metres >= 0 && d.Metres <= event.CellMetres) {
		return fmt.Errorf("%w: \"duplicates\": metres %v: want up to %d", ErrConfig, d.Metres, event.CellMetres)
	}
	if t, err := time.ParseDuration(d.Within); d.Within != "" && (err != nil || t <= 0 || t > 24*time.Hour) {
		return fmt.Errorf("%w: \"duplicates\": within %q: want a positive duration up to 24h", ErrConfig, d.Within)
	}
	return nil
}

// nearness is what Duplicates, which was checked, says.
func (d Duplicates) nearness() event.Nearness {
	n := event.DefaultNearness()
	if d.Metres > 0 {
		n.Metres = d.Metres
	}
	if t, err := time.ParseDuration(d.Within); err == nil {
		n.Within = t
	}
	return n
}

const (
	// nearHitsMax bounds the events that are compared with one.
	nearHitsMax = 512
	// suspectsMax bounds the list of suspects of one event.
	suspectsMax = 100
	// unseenMax bounds the events that wait to be looked at for certain duplicates;
	// what comes past it is left to people.
	unseenMax = 4096
)

// Suspects lists the events that may be of the same thing as one, as far as this
// site holds them, the likeliest first. Those that are merged, or were taken apart,
// are left out.
func (n *Node) Suspects(id tiers.DocID) ([]event.Suspect, error) {
	_, v, err := n.Event(id)
	if err != nil {
		return nil, err
	}
	return n.suspects(v)
}

func (n *Node) suspects(v event.View) ([]event.Suspect, error) {
	near := n.config().Duplicates.nearness()
	at, within := v.Report.ReportedAtMS, near.Within.Milliseconds()
	out := []event.Suspect{}
	seen := map[store.DocKey]bool{}
	if v.Named {
		all, err := n.namesakes(v.ID.Name())
		if err != nil {
			return nil, err
		}
		for _, o := range all {
			_, ever := v.MergedWith(o.Name())
			if o.key.Stream.String() == v.Stream || ever || o.State == event.StateMerged || o.State == event.StateVoid {
				continue
			}
			like, _ := event.Alike(v.Report, o.Report, near)
			like.SameName = true
			seen[o.key] = true
			out = append(out, suspectOf(o.View, like))
		}
	}
	looked := 0
	for _, prefix := range event.NearAll(v.Report) {
		q := store.IndexQuery{Name: event.IndexNear, Prefix: prefix, Limit: nearHitsMax}
		if from := at - within; from > 0 {
			q.After = &store.IndexHit{Value: event.NearValue(prefix, from-1)}
		}
		hits, err := n.group.Store().Index(q)
		if err != nil {
			return nil, err
		}
		for _, h := range hits {
			if h.Value > event.NearValue(prefix, at+within) || looked == nearHitsMax {
				break
			}
			if seen[h.Key] || h.Key.Doc == v.ID && h.Key.Stream.String() == v.Stream {
				continue
			}
			looked++
			s, ok, err := n.suspect(v, h.Key, near)
			if err != nil {
				return nil, err
			}
			if ok {
				out = append(out, s)
			}
		}
	}
	slices.SortFunc(out, func(a, b event.Suspect) int {
		certain := func(s event.Suspect) int {
			if s.Certain() {
				return 0
			}
			return 1
		}
		return cmp.Or(cmp.Compare(certain(a), certain(b)), cmp.Compare(a.ApartS, b.ApartS), strings.Compare(string(a.Event), string(b.Event)))
	})
	return out[:min(len(out), suspectsMax)], nil
}

// suspect compares an event with another one.
func (n *Node) suspect(v event.View, k store.DocKey, near event.Nearness) (s event.Suspect, ok bool, err error) {
	o, err := n.eventView(k)
	if errors.Is(err, store.ErrNotFound) {
		return s, false, nil
	}
	if err != nil {
		return s, false, err
	}
	like, ok := event.Alike(v.Report, o.Report, near)
	_, ever := v.MergedWith(tiers.DocID(k.String()))
	if !ok || ever || o.State == event.StateMerged || o.State == event.StateVoid {
		return s, false, nil
	}
	return suspectOf(o, like), true, nil
}

func suspectOf(o event.View, like event.Likeness) event.Suspect {
	return event.Suspect{
		Event: o.ID, Stream: o.Stream, Site: o.Site, State: o.State, Title: o.Report.Title, ReportedAtMS: o.Report.ReportedAtMS, Likeness: like,
	}
}

// SuspectPair is an event with the earlier ones that it may be a duplicate of.
type SuspectPair struct {
	Event    tiers.DocID     `json:"event"`
	Stream   string          `json:"stream"`
	Title    string          `json:"title"`
	Suspects []event.Suspect `json:"suspects"`
}

// SuspectPairs lists recent events that may be duplicates of earlier ones, the
// newest first: of at most so many events that were reported since a time.
func (n *Node) SuspectPairs(since int64, events int) ([]SuspectPair, error) {
	hits, err := n.group.Store().Index(store.IndexQuery{Name: event.IndexEvent, Descending: true, Limit: events})
	if err != nil {
		return nil, err
	}
	out := []SuspectPair{}
	for _, h := range hits {
		if h.Value < event.TimeValue(since) {
			break
		}
		v, err := n.eventView(h.Key)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if v.State == event.StateMerged || v.State == event.StateVoid {
			continue
		}
		all, err := n.suspects(v)
		if err != nil {
			return nil, err
		}
		self := v.Self()
		all = slices.DeleteFunc(all, func(s event.Suspect) bool {
			return event.Earlier(event.Other{Event: s.Event, Stream: s.Stream, ReportedAtMS: s.ReportedAtMS}, self) > 0
		})
		if len(all) > 0 {
			out = append(out, SuspectPair{Event: v.ID, Stream: v.Stream, Title: v.Report.Title, Suspects: all})
		}
	}
	return out, nil
}

// foldEvent is [event.Fold]; it notes that an event is merged and, at a site that
// merges certain duplicates by itself, which are new.
func (n *Node) foldEvent() view.Fold {
	n.merging.named = make(chan store.DocKey, unseenMax)
	if n.config().Duplicates.Merge {
		n.merging.unseen = make(chan store.DocKey, unseenMax)
	}
	return func(s *crdt.Source) (crdt.View, error) {
		v, out, err := event.FoldView(s)
		if err == nil && v.Into != "" {
			n.merging.work.Store(mergePasses)
		}
		if err == nil && v.Named && v.Into == "" {
			n.merging.noteNamed(store.DocKey{Stream: s.Stream, Doc: s.Doc})
		}
		if err == nil && n.merging.unseen != nil && len(v.Actions) == 0 {
			select {
			case n.merging.unseen <- store.DocKey{Stream: s.Stream, Doc: s.Doc}:
			default:
			}
		}
		return out, err
	}
}

// recall notes the events of the last hours again: a node that begins to lead does
// not know which of them were looked at.
func (n *Node) recall() error {
	n.merging.allNamed.Store(true)
	if n.merging.unseen == nil {
		return nil
	}
	hits, err := n.group.Store().Index(store.IndexQuery{Name: event.IndexEvent, Descending: true, Limit: unseenMax})
	since := event.TimeValue(n.opts.Now().Add(-n.config().Duplicates.nearness().Within).UnixMilli())
	for _, h := range hits {
		if h.Value < since {
			break
		}
		select {
		case n.merging.unseen <- h.Key:
		default:
		}
	}
	return err
}

// mergeCertain merges new events with those that they are certain duplicates of.
//
// Each is looked at once more with the next change: at first those that were taken
// in with it may not be listed yet.
func (n *Node) mergeCertain(ctx context.Context) error {
	look := n.merging.again
	n.merging.again = nil
	for waits := n.merging.unseen != nil; waits; {
		select {
		case k := <-n.merging.unseen:
			look, n.merging.again = append(look, k), append(n.merging.again, k)
		default:
			waits = false
		}
	}
	for _, k := range look {
		if err := n.mergeIfCertain(ctx, k); err != nil && !n.passable(k, err) {
			return fmt.Errorf("duplicates of %s: %w", k, err)
		}
	}
	return nil
}

// mergeIfCertain merges one, if this is the nearest site above both.
func (n *Node) mergeIfCertain(ctx context.Context, k store.DocKey) error {
	v, err := n.eventView(k)
	if err != nil || v.State == event.StateMerged || v.State == event.StateVoid {
		return err
	}
	all, err := n.suspects(v)
	if err != nil {
		return err
	}
	for _, s := range all {
		site, _, _ := strings.Cut(s.Stream, "/")
		if !s.Certain() || commonAncestor(n.Topology(), k.Stream.Site, tiers.SiteID(site)) != n.creds.ID.Site {
			continue
		}
		_, err := n.MergeEvents(ctx, "", tiers.DocID(k.String()), event.Other{Event: s.Event, Stream: s.Stream}.Name(), "the same source, or the same words of the same person", "")
		return err
	}
	return nil
}

// ListEvents is a page of events, the newest first, that a query selects. It looks
// at no more than so many; Next goes on where it ended.
func (n *Node) listEvents(q eventQuery) (items []json.RawMessage, next *store.IndexHit, err error) {
	query := store.IndexQuery{Name: event.IndexEvent, Descending: true, After: q.after, Limit: 500}
	if q.after == nil && q.untilMS > 0 {
		query.After = &store.IndexHit{Value: event.TimeValue(q.untilMS)}
	}
	items = []json.RawMessage{}
	for looked := 0; ; {
		hits, err := n.group.Store().Index(query)
		if err != nil {
			return nil, nil, err
		}
		for _, h := range hits {
			if len(items) == q.limit || looked == eventsLookedAt {
				return items, query.After, nil
			}
			if h.Value < event.TimeValue(q.sinceMS) {
				return items, nil, nil
			}
			query.After = &h
			looked++
			if q.site != "" && h.Key.Stream.Site != q.site {
				continue
			}
			v, err := n.views.View(h.Key)
			if errors.Is(err, store.ErrNotFound) {
				continue
			}
			if err != nil {
				return nil, nil, err
			}
			if ok, err := q.selects(v.JSON); err != nil {
				return nil, nil, fmt.Errorf("view of %s: %w", h.Key, err)
			} else if ok {
				items = append(items, n.shown(h.Key, v.JSON))
			}
		}
		if len(hits) < query.Limit {
			return items, nil, nil
		}
	}
}

// eventsLookedAt bounds the events that one page looks at.
const eventsLookedAt = 20_000

// eventQuery selects events; what is empty or zero selects all.
type eventQuery struct {
	after            *store.IndexHit
	limit            int
	site             tiers.SiteID
	state, kind      string
	priority         int
	sinceMS, untilMS int64
}

// selects looks at what the index says nothing of.
func (q eventQuery) selects(b []byte) (bool, error) {
	if q.state == "" && q.kind == "" && q.priority == 0 {
		return true, nil
	}
	var v struct {
		State  string `json:"state"`
		Report struct {
			Type     string `json:"type"`
			Priority int    `json:"priority"`
		} `json:"report"`
	}
	err := json.Unmarshal(b, &v)
	return (q.state == "" || v.State == q.state) && (q.kind == "" || v.Report.Type == q.kind) &&
		(q.priority == 0 || v.Report.Priority == q.priority), err
}
