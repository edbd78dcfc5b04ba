package track

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// KindProposal is the document kind of change proposals and the name of their
// index, which lists them by the time of drafting.
const KindProposal = "proposal"

// What a proposal asks for.
const (
	DoAdd    = "add"
	DoChange = "change"
	DoRetire = "retire"
)

// Content is what a proposal asks for. It stands in the proposing site's catalog
// stream, and the track in that of Site.
type Content struct {
	Do string `json:"do"`
	// Site is in whose catalog the track stands or is to stand: the proposing site,
	// or one above it.
	Site tiers.SiteID `json:"site"`
	Code string       `json:"code"`
	// Track is what to add.
	Track *Track `json:"track,omitempty"`
	// Fields are the fields to change; Base is what they and the state were when the
	// proposal was written, which its site sets.
	Fields map[string]string `json:"fields,omitempty"`
	Base   map[string]string `json:"base,omitempty"`
	Reason string            `json:"reason"`
	// Who is the person that proposes it.
	Who string `json:"who,omitempty"`
}

// Validate checks the form of a content. The error wraps [ErrInvalid].
func (c Content) Validate() error {
	if err := c.Site.Validate(); err != nil {
		return fmt.Errorf("%w: site: %w", ErrInvalid, err)
	}
	if err := checkCode("code", Kind, c.Code); err != nil {
		return err
	}
	if c.Reason == "" {
		return fmt.Errorf("%w: reason is empty: a proposal says why", ErrInvalid)
	}
	if err := checkText("reason", c.Reason, fieldBytesMax); err != nil {
		return err
	}
	if err := checkText("who", c.Who, whoBytesMax); err != nil {
		return err
	}
	switch {
	case c.Do != DoAdd && c.Do != DoChange && c.Do != DoRetire:
		return fmt.Errorf("%w: do %.64q: want %s, %s or %s", ErrInvalid, c.Do, DoAdd, DoChange, DoRetire)
	case (c.Do == DoAdd) != (c.Track != nil):
		return fmt.Errorf("%w: track: %s wants one exactly if it is %s", ErrInvalid, c.Do, DoAdd)
	case (c.Do == DoChange) != (len(c.Fields) > 0):
		return fmt.Errorf("%w: fields: %s with %d of them: %s wants some, of %v", ErrInvalid, c.Do, len(c.Fields), DoChange, editable)
	}
	for name, value := range c.Base {
		if err := checkText("base of "+name, value, fieldBytesMax); err != nil {
			return err
		}
	}
	switch c.Do {
	case DoAdd:
		if c.Track.Code != c.Code || c.Track.Origin != "" || c.Track.OriginSite != "" || c.Track.Proposal != "" {
			return fmt.Errorf("%w: track: want code %s and neither origin nor proposal", ErrInvalid, c.Code)
		}
		_, err := Ops(*c.Track)
		return err
	case DoChange:
		_, err := EditOps(c.Fields)
		return err
	}
	return nil
}

// Sets returns the fields that a change or retirement sets; nil for an addition.
func (c Content) Sets() map[string]string {
	switch c.Do {
	case DoChange:
		return c.Fields
	case DoRetire:
		return map[string]string{FieldState: StateRetired}
	}
	return nil
}

// Based returns the content with the values that a track's fields have now as what
// its author saw.
func (c Content) Based(now View) Content {
	c.Base = map[string]string{}
	for name := range c.Sets() {
		c.Base[name] = now.Get(name)
	}
	return c
}

// Difference is a field that is not any more what the author of a proposal saw.
type Difference struct {
	Field    string `json:"field"`
	Base     string `json:"base"`
	Now      string `json:"now"`
	Proposed string `json:"proposed"`
	// Conflict says that the field has several values now.
	Conflict bool `json:"conflict,omitempty"`
}

// Differences lists the fields that a content sets and that are not any more what
// its author saw, in the order of their names.
func (c Content) Differences(now View) (out []Difference) {
	sets := c.Sets()
	for _, name := range slices.Sorted(maps.Keys(sets)) {
		d := Difference{Field: name, Base: c.Base[name], Now: now.Get(name), Proposed: sets[name], Conflict: now.Conflict(name) != nil}
		if d.Now != d.Base || d.Conflict {
			out = append(out, d)
		}
	}
	return out
}

// Undo returns what takes a content's effect on a track back: a track that was
// added is retired, and a field that still is as proposed becomes what it was.
func (c Content) Undo(now View) map[string]string {
	if c.Do == DoAdd {
		if now.Get(FieldState) == StateRetired {
			return nil
		}
		return map[string]string{FieldState: StateRetired}
	}
	out := map[string]string{}
	for name, value := range c.Sets() {
		if now.Get(name) == value && c.Base[name] != value {
			out[name] = c.Base[name]
		}
	}
	return out
}

// Draft is the immutable head of a proposal.
type Draft struct {
	At crdt.HybridTime `json:"at"`
	By tiers.SiteID    `json:"by"`
	// Tier is that of By.
	Tier    tiers.Tier `json:"tier,omitzero"`
	Content Content    `json:"content"`
}

// The kinds of actions on a proposal. Those of the first group are the proposing
// site's, the others a site's above it.
const (
	ActionSubmit   = "submit"
	ActionRevise   = "revise"
	ActionWithdraw = "withdraw"

	ActionApprove = "approve"
	ActionReject  = "reject"
	// ActionUndo takes back what an approval wrote that another decision overruled.
	ActionUndo = "undo"
)

var actionKinds = []string{ActionSubmit, ActionRevise, ActionWithdraw, ActionApprove, ActionReject, ActionUndo}

// ofAuthor reports whether a kind of action is the proposing site's.
func ofAuthor(kind string) bool {
	return kind == ActionSubmit || kind == ActionRevise || kind == ActionWithdraw
}

// Action is one immutable step of a proposal.
type Action struct {
	At crdt.HybridTime `json:"at"`
	By tiers.SiteID    `json:"by"`
	// Tier is that of By when it acted.
	Tier tiers.Tier `json:"tier,omitzero"`
	Kind string     `json:"kind"`
	// Who is the person that acted.
	Who string `json:"who,omitempty"`
	// Reason is why; a rejection needs one.
	Reason string `json:"reason,omitempty"`
	// StandIn says that By decided for a site below it whose turn it was.
	StandIn bool `json:"stand_in,omitempty"`
	// Anyway says that By approved although the track was not any more what the
	// author saw.
	Anyway bool `json:"anyway,omitempty"`
	// Content is what a revision asks for instead.
	Content *Content `json:"content,omitempty"`
}

// timeMaxMS is 2200-01-01, in Unix milliseconds.
const timeMaxMS = 7258118400000

// Validate checks the form of an action; whether it may be made is
// [ProposalView.Check]'s to say. The error wraps [ErrInvalid].
func (a Action) Validate() error {
	if !slices.Contains(actionKinds, a.Kind) {
		return fmt.Errorf("%w: action %.64q on a proposal: want one of %s", ErrInvalid, a.Kind, strings.Join(actionKinds, ", "))
	}
	if ms := a.At.Millis(); ms > timeMaxMS {
		return fmt.Errorf("%w: at %d ms: want a time between 1970 and 2200", ErrInvalid, ms)
	}
	if a.Tier < tiers.TierCity || a.Tier > tiers.TierTownship {
		return fmt.Errorf("%w: tier %d: want 1 to 3", ErrInvalid, a.Tier)
	}
	if err := checkText("reason", a.Reason, fieldBytesMax); err != nil {
		return err
	}
	if err := checkText("who", a.Who, whoBytesMax); err != nil {
		return err
	}
	switch {
	case a.Kind == ActionReject && a.Reason == "":
		return fmt.Errorf("%w: reason is empty: a rejection says why", ErrInvalid)
	case (a.Kind == ActionRevise) != (a.Content != nil):
		return fmt.Errorf("%w: content: %s wants one exactly if it is %s", ErrInvalid, a.Kind, ActionRevise)
	case a.Anyway && a.Kind != ActionApprove:
		return fmt.Errorf("%w: anyway: only an approval has it, not %s", ErrInvalid, a.Kind)
	case a.StandIn && ofAuthor(a.Kind):
		return fmt.Errorf("%w: stand_in: only a decision has it, not %s", ErrInvalid, a.Kind)
	case a.Content != nil:
		return a.Content.Validate()
	}
	return nil
}

// The keys of the documents of facts.
const (
	keyProposal = "proposal"
	keyAdoption = "adoption"
	keyActions  = "actions"
)

// ProposalOps returns the operations of a proposal's first change, with first
// actions if it has any. The error wraps [ErrInvalid].
func ProposalOps(d Draft, actions ...Action) ([]crdt.Op, error) {
	if err := d.Content.Validate(); err != nil {
		return nil, err
	}
	ops, err := factOps(keyProposal, d)
	for _, a := range actions {
		if err != nil {
			return nil, err
		}
		var op crdt.Op
		op, err = ActionOp(a)
		ops = append(ops, op)
	}
	return ops, err
}

// ActionOp returns the operation that appends an action. The error wraps
// [ErrInvalid].
func ActionOp(a Action) (crdt.Op, error) {
	if err := a.Validate(); err != nil {
		return crdt.Op{}, err
	}
	return entryOp(a)
}

func factOps(key string, head any) ([]crdt.Op, error) {
	b, err := json.Marshal(head)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return []crdt.Op{{Kind: crdt.OpPut, Key: key, Value: string(b)}, {Kind: crdt.OpMakeList, Key: keyActions}}, nil
}

func entryOp(e any) (crdt.Op, error) {
	b, err := json.Marshal(e)
	if err != nil {
		return crdt.Op{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return crdt.Op{Kind: crdt.OpAppend, In: keyActions, Value: string(b)}, nil
}
