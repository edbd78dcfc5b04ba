package command

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// The kinds of steps of an order.
const (
	StepStored    = "stored"    // a site between holds it: made by that site itself
	StepDelivered = "delivered" // the target holds it: made by the target itself
	StepAck       = "ack"       // somebody at the target has taken note of it
	StepExecute   = "execute"   // it has been carried out
	StepRefuse    = "refuse"    // the target cannot or may not carry it out
	StepReport    = "report"    // the target reports back
	StepCancel    = "cancel"    // the issuer takes it back
	StepRemind    = "remind"    // the issuer asks again
	// StepSent says in the order how many targets have a receipt, or how many have
	// been told of a cancel or remind.
	StepSent = "sent"
)

// refusals are the codes of why a target refuses.
var refusals = []string{"no_means", "not_ours", "unsafe", "unlawful", "unclear", "overtaken"}

// RefuseReasons lists the codes of why a target refuses an order.
func RefuseReasons() []string { return slices.Clone(refusals) }

// Step is one immutable step of an order.
type Step struct {
	At crdt.HybridTime `json:"at"`
	// By is the site that made it, Tier its tier then.
	By   tiers.SiteID `json:"by"`
	Tier tiers.Tier   `json:"tier,omitempty"`
	Kind string       `json:"kind"`
	// Who is the person that made it.
	Who      string   `json:"who,omitempty"`
	Note     string   `json:"note,omitempty"`
	Reason   string   `json:"reason,omitempty"`
	Evidence []string `json:"evidence,omitempty"`
	// Of is the time of the step that StepSent is about, 0 for the order itself, and
	// Count how many targets it has gone to.
	Of    crdt.HybridTime `json:"of,omitempty"`
	Count int             `json:"count,omitempty"`
}

// operatorSteps are the kinds that people make.
var operatorSteps = []string{StepAck, StepExecute, StepRefuse, StepReport, StepCancel, StepRemind}

// Validate checks the form of a step that somebody makes. The error wraps
// [ErrInvalid].
func (s Step) Validate() error {
	if !slices.Contains(operatorSteps, s.Kind) {
		return fmt.Errorf("%w: step %.64q of an order: want one of %s", ErrInvalid, s.Kind, strings.Join(operatorSteps, ", "))
	}
	if err := checkText("who", s.Who, nameBytesMax); err != nil {
		return err
	}
	if err := checkText("note", s.Note, textBytesMax); err != nil {
		return err
	}
	if len(s.Evidence) > evidenceMax {
		return fmt.Errorf("%w: evidence: %d references: want at most %d", ErrInvalid, len(s.Evidence), evidenceMax)
	}
	for _, e := range s.Evidence {
		if tiers.Blank(e) {
			return fmt.Errorf("%w: evidence: a reference is empty", ErrInvalid)
		}
		if err := checkText("evidence", e, titleBytesMax); err != nil {
			return err
		}
	}
	switch {
	case s.Kind == StepRefuse && !slices.Contains(refusals, s.Reason):
		return fmt.Errorf("%w: reason %.64q of %s: want one of %s", ErrInvalid, s.Reason, s.Kind, strings.Join(refusals, ", "))
	case s.Kind != StepRefuse && s.Reason != "":
		return fmt.Errorf("%w: reason %.64q: %s takes none", ErrInvalid, s.Reason, s.Kind)
	case s.Kind == StepReport && tiers.Blank(s.Note):
		return fmt.Errorf("%w: note is empty: a report says how things stand", ErrInvalid)
	case s.Kind != StepExecute && s.Kind != StepReport && len(s.Evidence) > 0:
		return fmt.Errorf("%w: evidence: %s takes none", ErrInvalid, s.Kind)
	}
	return nil
}

// StepOp returns the operation that appends a step.
func StepOp(s Step) (crdt.Op, error) { return appendOp(s) }

func appendOp(v any) (crdt.Op, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return crdt.Op{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return crdt.Op{Kind: crdt.OpAppend, In: keySteps, Value: string(b)}, nil
}

func createOps(head any) ([]crdt.Op, error) {
	b, err := json.Marshal(head)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return []crdt.Op{{Kind: crdt.OpPut, Key: keyHead, Value: string(b)}, {Kind: crdt.OpMakeList, Key: keySteps}}, nil
}

// readHead decodes the immutable part of a document.
func readHead(s *crdt.Source, into any) error {
	if err := s.Head(keyHead, into); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

// readSteps returns the entries of a document's list, each once, the earliest
// first: an order that does not depend on how they came. Those that do not decode,
// or that good refuses, are counted.
func readSteps[T any](s *crdt.Source, at func(T) crdt.HybridTime, good func(v T, author tiers.SiteID) bool) (out []T, malformed int) {
	facts, malformed := s.Facts(keySteps)
	out = []T{}
	last := ""
	for _, f := range facts {
		var v T
		if f.Author == "" || json.Unmarshal([]byte(f.Text), &v) != nil || !good(v, f.Author) {
			malformed++
			continue
		}
		if len(out) == 0 || f.Text != last { // several may have written it
			out, last = append(out, v), f.Text
		}
	}
	slices.SortStableFunc(out, func(a, b T) int { return cmp.Compare(at(a), at(b)) })
	return out, malformed
}

func made(s *crdt.Source, v any, index ...crdt.IndexEntry) (crdt.View, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return crdt.View{}, fmt.Errorf("%w: view of %s: %w", ErrInvalid, s.Doc, err)
	}
	return crdt.View{JSON: b, Index: index}, nil
}

func checkText(name, value string, bytesMax int) error {
	switch {
	case len(value) > bytesMax:
		return fmt.Errorf("%w: %s is %d bytes long: want at most %d", ErrInvalid, name, len(value), bytesMax)
	case !utf8.ValidString(value):
		return fmt.Errorf("%w: %s is not UTF-8: %.32q", ErrInvalid, name, value)
	case strings.ContainsAny(value, "\x00\x1f"):
		return fmt.Errorf("%w: %s holds a control character", ErrInvalid, name)
	}
	return nil
}

// separator stands between the parts of an index value; no site code holds it.
const separator = "\x1f"

// IndexPrefix is the beginning of the index values of a first part.
func IndexPrefix(first string) string { return first + separator }

// TimeValue is a time in Unix milliseconds in an index value.
func TimeValue(ms int64) string { return fmt.Sprintf("%016x", max(ms, 0)) }
