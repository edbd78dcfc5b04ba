package oracle

import (
	"time"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
)

// Site is a site's state as an oracle reads it.
type Site struct {
	ID    tiers.SiteID
	Store *store.Store
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
