package oracle

import (
	"fmt"
	"time"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
)

// Store is what oracles read of a site's store, as [store.Store] has it.
type Store interface {
	Streams() []tiers.StreamID
	Vector(stream tiers.StreamID) crdt.Vector
	ReadRun(c crdt.ChainID, first, last uint64, bytesMax int) (store.Run, error)
	Documents(f func(store.DocKey) error) error
	Changes(k store.DocKey) (*store.Changes, error)
	Claim(resource string) (store.Claim, error)
	AppliedIndex() uint64
}

// Site is a site's state as an oracle reads it.
type Site struct {
	ID    tiers.SiteID
	Store Store
	// View returns a document's up-to-date view; the error wraps
	// [store.ErrNotFound].
	View func(k store.DocKey) (crdt.View, error)
}

// Acked is a write that was acknowledged.
type Acked struct {
	Site   tiers.SiteID
	Key    string
	Stream tiers.StreamID
	Doc    tiers.DocID
	Seq    uint64
	Urgent bool
	At     time.Time
}

// Verdict is what one oracle found.
type Verdict struct {
	Oracle string `json:"oracle"`
	// Checked is how many things it looked at; a verdict of none says nothing.
	Checked uint64 `json:"checked"`
	// Violations is how many broke the rule; Examples describes the first few.
	Violations uint64   `json:"violations"`
	Examples   []string `json:"examples,omitempty"`
}

// examplesMax bounds Examples.
const examplesMax = 10

// Holds reports whether nothing broke the rule.
func (v Verdict) Holds() bool { return v.Violations == 0 }

// violate counts a violation and describes it, if it is one of the first.
func (v *Verdict) violate(format string, args ...any) {
	v.Violations++
	if len(v.Examples) < examplesMax {
		v.Examples = append(v.Examples, fmt.Sprintf(format, args...))
	}
}

// unread counts what could not be read: a judge that cannot look does not acquit.
func (v *Verdict) unread(what any, site tiers.SiteID, err error) {
	v.violate("%v at %s cannot be read: %v", what, site, err)
}

// runBytes is how much of a chain is read at a time.
const runBytes = 256 << 10
