package event

import (
	"cmp"
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/tiermesh/tiermesh/tiers"
)

// Reporter is who reported an event, or one of its duplicates.
type Reporter struct {
	Event        tiers.DocID  `json:"event"`
	Site         tiers.SiteID `json:"site"`
	Reporter     string       `json:"reporter,omitempty"`
	Channel      string       `json:"channel,omitempty"`
	ReportedAtMS int64        `json:"reported_at_ms"`
	Title        string       `json:"title"`
	// Text is the beginning of the report's text, up to 1 KiB.
	Text string `json:"text,omitempty"`
}

// merges are the events that one is merged with: those whose last action of a merge
// and an unmerge, in hybrid-time order, is the merge. It stands in both documents
// alike, so both see it alike.
type merges struct {
	// with are the events that it is merged with now, known all that it ever was, both
	// by [Other.Name].
	with, known map[tiers.DocID]Other
	// settled are the events whose pair with an original needs nothing any more.
	settled map[pair]struct{}
}

// pair is a duplicate and its original, by [Other.Name].
type pair struct{ duplicate, original tiers.DocID }

// Pair is two events that are one: the duplicate is the one that was reported later.
type Pair struct{ Duplicate, Original Other }

// Name is the event's full name, or the bare one where the stream is not known: what
// tells it from another event that was given its name.
func (o Other) Name() tiers.DocID {
	if o.Stream == "" {
		return o.Event
	}
	return tiers.DocID(o.Stream + "/" + string(o.Event))
}

// Earlier orders events: by when they were reported, then by name, then by stream. Of two that are
// one the first is the original, whoever merges them and in which order they are
// named: no merges, made wherever, go round in a circle.
func Earlier(a, b Other) int {
	return cmp.Or(cmp.Compare(a.ReportedAtMS, b.ReportedAtMS), cmp.Compare(a.Event, b.Event), cmp.Compare(a.Stream, b.Stream))
}

// Self is the event as another one's document tells of it.
func (v *View) Self() Other {
	o := Other{Event: v.ID, Stream: v.Stream, ReportedAtMS: v.Report.ReportedAtMS, Priority: v.Report.Priority, Reporters: v.Reporters}
	if len(o.Reporters) == 0 {
		o.Reporters = []Reporter{v.reporter()}
	}
	o.Reporters = o.Reporters[:min(len(o.Reporters), reportersMax)]
	return o
}

func (v *View) reporter() Reporter {
	r := Reporter{
		Event: v.ID, Site: v.Site, Reporter: v.Report.Reporter, Channel: v.Report.Channel,
		ReportedAtMS: v.Report.ReportedAtMS, Title: v.Report.Title, Text: v.Report.Text,
	}
	if len(r.Text) > reportTextKept {
		end := reportTextKept
		for !utf8.RuneStart(r.Text[end]) {
			end--
		}
		r.Text = r.Text[:end]
	}
	return r
}

// merge notes an action of a merge.
func (m *merges) note(a Action) {
	if m.known == nil {
		*m = merges{map[tiers.DocID]Other{}, map[tiers.DocID]Other{}, map[pair]struct{}{}}
	}
	switch {
	case a.Other == nil:
	case a.Kind == KindMerge:
		m.with[a.Other.Name()], m.known[a.Other.Name()] = *a.Other, *a.Other
	case a.Kind == KindUnmerge:
		delete(m.with, a.Other.Name())
		m.known[a.Other.Name()] = *a.Other
	case a.Kind == KindSettle:
		for _, n := range a.Others {
			m.settled[pair{n, a.Other.Name()}] = struct{}{}
		}
	}
}

// neighbours are the events that this one is merged with, the earliest first.
func (v *View) neighbours() []Other {
	return slices.SortedFunc(maps.Values(v.merges.with), Earlier)
}

// MergedWith reports whether the event is merged with another now, and whether it
// ever was. A bare name means any event of that name.
func (v *View) MergedWith(id tiers.DocID) (now, ever bool) {
	has := func(in map[tiers.DocID]Other) bool {
		for name, o := range in {
			if id == name || id == o.Event || name == id.Local() {
				return true
			}
		}
		return false
	}
	return has(v.merges.with), has(v.merges.known)
}

// Original is the event that this one is a duplicate of.
func (v *View) Original() (o Other, merged bool) {
	near := v.neighbours()
	if len(near) == 0 || Earlier(near[0], v.Self()) >= 0 {
		return Other{}, false
	}
	return near[0], true
}

// Name is the event's name, in full if a client gave it: another site may have given it
// to another event.
func (v *View) Name() tiers.DocID {
	if !v.Named {
		return v.ID
	}
	return v.Self().Name()
}

// nameFor is how the event's view tells of another: in full if that has its name.
func (v *View) nameFor(o Other) tiers.DocID {
	if o.Event == v.ID {
		return o.Name()
	}
	return o.Event
}

// merged derives what merges come to.
func (v *View) merged() {
	self := v.Self()
	type at struct { // of one event
		id   tiers.DocID
		site tiers.SiteID
	}
	seen := map[at]bool{}
	var reporters []Reporter
	add := func(r Reporter) {
		if k := (at{r.Event, r.Site}); !seen[k] {
			seen[k] = true
			reporters = append(reporters, r)
		}
	}
	add(v.reporter())
	for _, o := range v.neighbours() {
		if Earlier(o, self) < 0 {
			if v.Into == "" {
				v.Into, v.State = v.nameFor(o), StateMerged
			}
			continue
		}
		v.Merged = append(v.Merged, v.nameFor(o))
		if o.Priority > 0 {
			v.raise(o.Priority)
		}
		for _, r := range o.Reporters {
			add(r)
		}
	}
	if len(v.Merged) == 0 {
		return
	}
	slices.SortFunc(reporters, func(a, b Reporter) int {
		return cmp.Or(cmp.Compare(a.ReportedAtMS, b.ReportedAtMS), cmp.Compare(a.Event, b.Event), cmp.Compare(a.Site, b.Site))
	})
	v.Reporters = reporters
}

// Knots returns the pairs that must be merged so that all events that are one hang
// at the earliest of them. Sites that were apart may have merged an event with two
// others, which know nothing of each other; it is in this one's document that both
// are named. It is the step of an algorithm that finds connected components: each
// event has its neighbours hang at the earliest of them and itself. When no event
// has a knot, every duplicate names the same original as union-find over all merges
// does. Pairs that were merged, or taken apart, before are the caller's to leave
// out; [KindSettle] ends a knot.
func (v *View) Knots() []Pair {
	if len(v.merges.with) < 2 || v.Into == "" {
		return nil // alone, a leaf, or the original itself
	}
	near := v.neighbours()
	first := near[0]
	var out []Pair
	for _, o := range near[1:] {
		_, done := v.merges.settled[pair{o.Name(), first.Name()}]
		if !done && o.Event != first.Event { // as builds wrote it that knew no full names
			_, done = v.merges.settled[pair{o.Event, first.Event}]
		}
		if !done {
			out = append(out, Pair{Duplicate: o, Original: first})
		}
	}
	return out
}
