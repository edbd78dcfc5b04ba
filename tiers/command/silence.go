package command

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// KindSilence is the document of one silence of a site, in the urgent stream of the
// site that noticed it; also its index by when that was.
const KindSilence = "silence"

// IndexSilenceOpen lists the silences that have not ended, by who noticed, then who
// is silent.
const IndexSilenceOpen = KindSilence + ".open"

// Contact is when a site was last heard of.
type Contact struct {
	// AtMS is in Unix milliseconds; 0 is never.
	AtMS int64 `json:"at_ms,omitempty"`
	// Live says that a link to the site itself is up now.
	Live bool `json:"live,omitempty"`
	// How is link or record.
	How string `json:"how,omitempty"`
}

// How a site was heard of.
const (
	HeardByLink   = "link"
	HeardByRecord = "record"
)

// Observed is what a site knows of those below it.
type Observed struct {
	Self  tiers.SiteID
	NowMS int64
	// SinceMS is when this site began to listen: before that it could not hear.
	SinceMS int64
	// Contacts are the last contacts, by site; Limits how long each may be silent, in
	// milliseconds.
	Contacts map[tiers.SiteID]Contact
	Limits   map[tiers.SiteID]int64
	// Said are the sites of which another one said that they are silent, and has not
	// taken it back: by who says it, then of whom.
	Said map[tiers.SiteID]map[tiers.SiteID]bool
}

// Verdict is whether a site is silent.
type Verdict struct {
	Silent bool
	// Heard says that the site was heard of: while who listens has just begun, a site
	// may be neither.
	Heard bool
	// Behind is the silent site between, through which it would be heard.
	Behind tiers.SiteID
	// By is who says so: who listens itself, or a site between that is heard.
	By tiers.SiteID
}

// Raises reports whether who listens raises the alert: of its children, and of those
// further down while the site between is silent as well. Else that one does.
func (v Verdict) Raises(self tiers.SiteID) bool { return v.Silent && v.By == self }

// Judge returns the verdict on each site below the one that listens. A site is heard
// while a link to it is up, or when its last contact is younger than its limit. Of one
// that is not, further down, the site between speaks, as long as that is heard: a
// quiet township writes nothing for hours, and its district knows it to be there.
func Judge(t *tiers.Topology, o Observed) map[tiers.SiteID]Verdict {
	out := map[tiers.SiteID]Verdict{}
	var down func(parent tiers.SiteID)
	down = func(parent tiers.SiteID) {
		for _, site := range t.Children(parent) {
			c, above, limit := o.Contacts[site], out[parent], o.Limits[site]
			own := parent == o.Self
			switch {
			case c.Live || o.NowMS-c.AtMS < limit:
				out[site] = Verdict{Heard: true, By: o.Self}
			case !own && above.Heard:
				said := o.Said[parent][site]
				out[site] = Verdict{Silent: said, Heard: !said, By: parent}
			case o.NowMS-o.SinceMS < limit || !own && !above.Silent:
				out[site] = Verdict{By: o.Self} // it is too early to say
			case own:
				out[site] = Verdict{Silent: true, By: o.Self}
			default:
				out[site] = Verdict{Silent: true, By: o.Self, Behind: parent}
			}
			down(site)
		}
	}
	down(o.Self)
	return out
}

// Alert is a silence as it was noticed; it never changes.
type Alert struct {
	// Site is the silent one, By who noticed.
	Site tiers.SiteID `json:"site"`
	By   tiers.SiteID `json:"by"`
	// SinceMS is the last contact, in Unix milliseconds; 0 is never. LimitMS is the
	// limit that it broke.
	SinceMS int64 `json:"since_ms"`
	LimitMS int64 `json:"limit_ms"`
	// Behind is the silent site between.
	Behind tiers.SiteID `json:"behind,omitempty"`
	// Event is the event that it opened.
	Event tiers.DocID `json:"event,omitempty"`
}

// AlertID returns the identifier of a silence: whoever finds the same one again, after
// a crash or another election, makes no second alert.
func AlertID(by, site tiers.SiteID, sinceMS int64) tiers.DocID {
	return tiers.NewDocID(KindSilence, uuid("tiermesh silence v1", string(by), string(site), strconv.FormatInt(sinceMS, 10)))
}

// EventID returns the identifier of the event that a silence opens.
func EventID(a Alert) tiers.DocID {
	return tiers.NewDocID("event", uuid("tiermesh silence event v1", string(a.By), a.SourceKey()))
}

// SourceKey is the key of the event that a silence opens.
func (a Alert) SourceKey() string {
	return "silence:" + string(a.Site) + ":" + strconv.FormatInt(a.SinceMS, 10)
}

// The kinds of a silence's steps.
const (
	SilenceRaised  = "raised"
	SilenceCleared = "cleared"
)

// SilenceStep is one immutable step of a silence.
type SilenceStep struct {
	At   crdt.HybridTime `json:"at"`
	By   tiers.SiteID    `json:"by"`
	Kind string          `json:"kind"`
}

// AlertOps returns the operations that raise an alert for the first time; a step
// raises it again, or takes it back.
func AlertOps(a Alert, at crdt.HybridTime) ([]crdt.Op, error) {
	ops, err := createOps(a)
	if err != nil {
		return nil, err
	}
	op, err := SilenceOp(SilenceStep{At: at, By: a.By, Kind: SilenceRaised})
	return append(ops, op), err
}

// SilenceOp returns the operation that appends a step.
func SilenceOp(s SilenceStep) (crdt.Op, error) { return appendOp(s) }

// SilenceView is what people see of a silence.
type SilenceView struct {
	ID     tiers.DocID  `json:"id"`
	Stream string       `json:"stream"`
	Site   tiers.SiteID `json:"site"`
	Alert  Alert        `json:"alert"`
	// Open says that it has not ended; RaisedMS and ClearedMS are the last of each.
	Open      bool          `json:"open"`
	RaisedMS  int64         `json:"raised_ms"`
	ClearedMS int64         `json:"cleared_ms,omitempty"`
	Steps     []SilenceStep `json:"steps"`
	Faults
}

// FoldSilence derives the view of a silence: its last step by hybrid time says
// whether it goes on. Only who noticed it may write.
func FoldSilence(s *crdt.Source) (crdt.View, error) {
	v := SilenceView{ID: s.Doc, Stream: s.Stream.String(), Site: s.Stream.Site}
	if err := readHead(s, &v.Alert); err != nil {
		return crdt.View{}, err
	}
	var bad int
	v.Steps, bad = readSteps(s, func(x SilenceStep) crdt.HybridTime { return x.At }, func(x SilenceStep, author tiers.SiteID) bool {
		return x.By == author && author == v.Site && (x.Kind == SilenceRaised || x.Kind == SilenceCleared)
	})
	v.Faults = Faults{bad, s.Pending, s.Refused}
	for _, x := range v.Steps {
		if v.Open = x.Kind == SilenceRaised; v.Open {
			v.RaisedMS = x.At.Millis()
		} else {
			v.ClearedMS = x.At.Millis()
		}
	}
	index := []crdt.IndexEntry{{Name: KindSilence, Value: TimeValue(v.RaisedMS)}}
	if v.Open && v.Alert.Site != "" {
		index = append(index, crdt.IndexEntry{Name: IndexSilenceOpen, Value: IndexPrefix(string(v.Site)) + string(v.Alert.Site)})
	}
	return made(s, v, index...)
}

// SilenceFromView reads a view back. The error wraps [ErrInvalid].
func SilenceFromView(b []byte) (v SilenceView, err error) {
	if err := json.Unmarshal(b, &v); err != nil {
		return v, fmt.Errorf("%w: silence: %w", ErrInvalid, err)
	}
	return v, nil
}
