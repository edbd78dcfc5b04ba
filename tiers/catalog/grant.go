package catalog

import (
	"fmt"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// KindGrant is the document kind of usage grants (digital resources shared between
// sites) and the name of their index.
const KindGrant = "usagegrant"

// The states of a grant.
const (
	GrantRequested = "requested"
	GrantGranted   = "granted"
	GrantRefused   = "refused"
	GrantRevoked   = "revoked"
	GrantWithdrawn = "withdrawn"
	GrantExpired   = "expired" // of one that was granted, once its time is over
)

// The steps of a grant. The first three are the owner's, the last the grantee's.
const (
	StepGrant    = "grant"
	StepRefuse   = "refuse"
	StepRevoke   = "revoke"
	StepWithdraw = "withdraw"
)

// GrantSteps lists the kinds of steps.
func GrantSteps() []string { return []string{StepGrant, StepRefuse, StepRevoke, StepWithdraw} }

// Grant is a request to use a digital resource; it never changes.
type Grant struct {
	Resource string `json:"resource"`
	// Owner is the site in whose catalog the resource is, Grantee who asks to use it.
	Owner   tiers.SiteID `json:"owner"`
	Grantee tiers.SiteID `json:"grantee"`
	Purpose string       `json:"purpose"`
	// UntilMS is until when it is wanted, in Unix milliseconds; 0 for no end.
	UntilMS int64           `json:"until_ms,omitempty"`
	At      crdt.HybridTime `json:"at"`
	// Version is the one of the resource's catalog that the request used.
	Version Used `json:"version,omitempty"`
}

// Validate checks a request at the present time. The error wraps [ErrInvalid].
func (g Grant) Validate(nowMS int64) error {
	if err := tiers.NewDocID(KindResource, g.Resource).Validate(); err != nil {
		return fmt.Errorf("%w: resource %.64q: want a code", ErrInvalid, g.Resource)
	}
	for _, f := range []struct {
		name string
		site tiers.SiteID
	}{{"owner", g.Owner}, {"grantee", g.Grantee}} {
		if err := f.site.Validate(); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrInvalid, f.name, err)
		}
	}
	if g.Owner == g.Grantee {
		return fmt.Errorf("%w: owner %s: a site needs no grant for its own resource", ErrInvalid, g.Owner)
	}
	if err := checkText("purpose", g.Purpose, nameBytesMax, true); err != nil {
		return err
	}
	return checkUntil(g.UntilMS, nowMS)
}

// GrantOps returns the operations of a grant's first change.
func GrantOps(g Grant) ([]crdt.Op, error) { return headOps(g) }

// GrantView is what people see of a grant.
type GrantView struct {
	ID     tiers.DocID  `json:"id"`
	Stream string       `json:"stream"`
	Site   tiers.SiteID `json:"site"`
	Grant
	// State is where it stands, but for its end: see [GrantView.StateAt].
	State string `json:"state"`
	// EndMS is until when it is granted; 0 for no end.
	EndMS   int64  `json:"end_ms,omitempty"`
	Steps   []Step `json:"steps"`
	Pending int    `json:"pending,omitempty"`
	Refused int    `json:"refused_records,omitempty"`
}

// FoldGrant derives a grant's view.
func FoldGrant(s *crdt.Source) (crdt.View, error) {
	v := GrantView{ID: s.Doc, Stream: s.Stream.String(), Site: s.Stream.Site, Pending: s.Pending, Refused: s.Refused, Steps: []Step{}}
	author, err := readHead(s, &v.Grant)
	if err != nil {
		return crdt.View{}, err
	}
	if author != v.Grantee {
		return crdt.View{}, fmt.Errorf("%w: %s of %s was written by %s", ErrInvalid, s.Doc, v.Grantee, author)
	}
	v.run(readSteps(s))
	return made(s, v, crdt.IndexEntry{Name: KindGrant, Value: s.Doc.Name()})
}

// run lets the steps have their effect, in order.
func (v *GrantView) run(steps []Step) {
	v.State = GrantRequested
	for _, x := range steps {
		if err := v.may(x); err != nil {
			x.Overruled = err.Error()
		} else {
			v.take(x)
		}
		v.Steps = append(v.Steps, x)
	}
}

func (v *GrantView) take(x Step) {
	switch x.Kind {
	case StepGrant:
		v.State, v.EndMS = GrantGranted, x.UntilMS
	case StepRefuse:
		v.State = GrantRefused
	case StepRevoke:
		v.State = GrantRevoked
	case StepWithdraw:
		v.State = GrantWithdrawn
	}
}

// may says why a step has no effect in the present state; nil when it has.
func (v *GrantView) may(x Step) error {
	who, from := v.Owner, []string{GrantRequested}
	switch x.Kind {
	case StepGrant: // again: with another end
		from = append(from, GrantGranted)
	case StepRefuse:
	case StepRevoke:
		from = []string{GrantGranted}
	case StepWithdraw:
		who, from = v.Grantee, append(from, GrantGranted)
	default:
		return fmt.Errorf("%w: step %.32q: want one of %v", ErrInvalid, x.Kind, GrantSteps())
	}
	if x.By != who {
		return fmt.Errorf("%w: %s is for site %s, not %s", ErrNow, x.Kind, who, x.By)
	}
	for _, s := range from {
		if v.State == s {
			return nil
		}
	}
	return fmt.Errorf("%w: %s is not for a grant that is %s: want one that is %s", ErrNow, x.Kind, v.State, join(from))
}

func join(all []string) string {
	out := all[0]
	for _, s := range all[1:] {
		out += " or " + s
	}
	return out
}

// Check reports whether a step may be made at the present time, and returns its
// operation. The error wraps [ErrInvalid] or [ErrNow].
func (v *GrantView) Check(x Step, nowMS int64) (crdt.Op, error) {
	if err := checkText("note", x.Note, nameBytesMax, false); err != nil {
		return crdt.Op{}, err
	}
	if err := checkUntil(x.UntilMS, nowMS); err != nil {
		return crdt.Op{}, err
	}
	if x.UntilMS != 0 && x.Kind != StepGrant {
		return crdt.Op{}, fmt.Errorf("%w: until_ms %d: only a grant has an end", ErrInvalid, x.UntilMS)
	}
	if err := v.may(x); err != nil {
		return crdt.Op{}, err
	}
	return x.op()
}

// StateAt is the state at a time, with what is over shown as such.
func (v *GrantView) StateAt(nowMS int64) string {
	if v.State == GrantGranted && v.EndMS != 0 && v.EndMS <= nowMS {
		return GrantExpired
	}
	return v.State
}
