package responder

import (
	"fmt"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// Request asks a unit's home site for it.
type Request struct {
	// From is the site that asks, Home the one that is asked.
	From tiers.SiteID `json:"from"`
	Home tiers.SiteID `json:"home"`
	// Unit is the unit's code; empty for any free one with the skill.
	Unit  string `json:"unit,omitempty"`
	Skill string `json:"skill,omitempty"`
	// For is what it is needed for, such as a task.
	For    string `json:"for"`
	Reason string `json:"reason"`
	// Lat and Lon are where it is needed, in WGS 84 degrees; both or neither.
	Lat       *float64 `json:"lat,omitempty"`
	Lon       *float64 `json:"lon,omitempty"`
	AskedAtMS int64    `json:"asked_at_ms"`
}

// Validate checks a request. The error wraps [ErrInvalid].
func (r Request) Validate() error {
	if err := first(r.From.Validate(), r.Home.Validate()); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	switch {
	case r.From == r.Home:
		return fmt.Errorf("%w: home %s asks itself: want a unit of another site; claim your own", ErrInvalid, r.Home)
	case (r.Unit == "") == (r.Skill == ""):
		return fmt.Errorf("%w: unit %.64q and skill %.64q: want one of both", ErrInvalid, r.Unit, r.Skill)
	case (r.Lat == nil) != (r.Lon == nil):
		return fmt.Errorf("%w: lat and lon: want both or neither", ErrInvalid)
	case r.Lat != nil:
		if _, err := PositionOps(Position{Lat: *r.Lat, Lon: *r.Lon}); err != nil {
			return err
		}
	}
	if r.Unit != "" {
		if err := checkCode(r.Unit); err != nil {
			return err
		}
	}
	return first(checkText("skill", r.Skill, 64, false), CheckHolder(r.For), CheckReason(r.Reason))
}

// RequestOps returns the operations of a request's first change. The error
// wraps [ErrInvalid].
func RequestOps(r Request) ([]crdt.Op, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	return createOps(keyRequest, r)
}

// The steps of a request. The home site grants once, or refuses; the asking site
// gives the unit back, or takes the request back; the home then frees the unit.
// The home may also take it back by force.
const (
	StepGrant    = "grant"
	StepRefuse   = "refuse"
	StepReturn   = "return"
	StepReleased = "released"
	StepReclaim  = "reclaim"
)

// The states of a request.
const (
	RequestPending   = "pending"
	RequestGranted   = "granted"
	RequestReturned  = "returned"  // the home has not freed the unit yet
	RequestRefused   = "refused"   // the end
	RequestReleased  = "released"  // the end
	RequestReclaimed = "reclaimed" // the end
)

// RequestView is what people see of a request.
type RequestView struct {
	ID      tiers.DocID  `json:"id"`
	Stream  string       `json:"stream"`
	Site    tiers.SiteID `json:"site"`
	State   string       `json:"state"`
	Request Request      `json:"request"`
	// Unit and Epoch are what was granted; Reason is why it was refused or taken
	// back.
	Unit    string  `json:"unit,omitempty"`
	Epoch   Epoch   `json:"epoch,omitzero"`
	Reason  string  `json:"reason,omitempty"`
	Entries []Entry `json:"entries"`
	Pending int     `json:"pending,omitempty"`
	Refused int     `json:"refused,omitempty"`
}

// Open reports whether something is still to happen.
func (v RequestView) Open() bool {
	return v.State == RequestPending || v.State == RequestGranted || v.State == RequestReturned
}

// OfHome reports whether a step is the home site's.
func OfHome(kind string) bool { return kind != StepReturn }

// IndexRequestOpen lists the requests in which something is still to happen.
const IndexRequestOpen = KindRequest + ".open"

// FoldRequest derives a request's view. Steps count when they are of the site
// whose they are to make, and were not written by the other one.
func FoldRequest(s *crdt.Source) (crdt.View, error) {
	v := RequestView{ID: s.Doc, Stream: s.Stream.String(), Site: s.Stream.Site, Pending: s.Pending, Refused: s.Refused}
	if err := head(s, keyRequest, &v.Request); err != nil {
		return crdt.View{}, err
	}
	v.Entries = entries(s, func(e Entry, author tiers.SiteID) bool {
		switch e.Kind {
		case StepGrant, StepRefuse, StepReleased, StepReclaim:
			return e.By == v.Request.Home && author != v.Request.From
		case StepReturn:
			return e.By == v.Request.From && author != v.Request.Home
		}
		return false
	})
	v.derive()
	index := []crdt.IndexEntry{{Name: KindRequest, Value: fmt.Sprintf("%016x", max(v.Request.AskedAtMS, 0))}}
	if v.Open() {
		index = append(index, crdt.IndexEntry{Name: IndexRequestOpen, Value: s.Doc.Name()})
	}
	return made(s, v, index...)
}

// derive works out the state from which steps there are.
func (v *RequestView) derive() {
	v.State = RequestPending
	if g := find(v.Entries, StepGrant); g != nil {
		v.State, v.Unit, v.Epoch = RequestGranted, g.Unit, g.Epoch
		if has(v.Entries, StepReturn) {
			v.State = RequestReturned
		}
	} else if r := find(v.Entries, StepRefuse); r != nil {
		v.State, v.Reason = RequestRefused, r.Reason
	}
	if has(v.Entries, StepReleased) {
		v.State = RequestReleased
	} else if r := find(v.Entries, StepReclaim); r != nil {
		v.State, v.Reason = RequestReclaimed, r.Reason
	}
}

// Answer is what the home site has to do about a request as it stands.
type Answer int

// The answers.
const (
	// AnswerNothing: it is not this site's turn.
	AnswerNothing Answer = iota
	// AnswerDecide: grant or refuse it.
	AnswerDecide
	// AnswerRefuse: it was taken back before it was decided.
	AnswerRefuse
	// AnswerFree: free the unit.
	AnswerFree
)

// Due returns what the home site has to do.
func (v RequestView) Due() Answer {
	switch {
	case v.State == RequestPending && v.Request.From == "":
		return AnswerNothing // its first change has not come
	case v.State == RequestPending && has(v.Entries, StepReturn):
		return AnswerRefuse
	case v.State == RequestPending:
		return AnswerDecide
	case v.State == RequestReturned:
		return AnswerFree
	}
	return AnswerNothing
}

// Missing returns the steps of one copy of a request that another one lacks and
// that have to be passed on: from is the asking site's copy when up is true,
// and the home's otherwise.
func Missing(from, to RequestView, up bool) []Entry {
	var out []Entry
	for _, e := range from.Entries {
		if OfHome(e.Kind) != up && !has(to.Entries, e.Kind) {
			out = append(out, e)
		}
	}
	return out
}
