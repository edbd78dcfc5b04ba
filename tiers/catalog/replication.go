package catalog

import (
	"fmt"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// The states of a replication, and the kinds of the steps that lead to them.
const (
	ReplicationOrdered   = "ordered"
	ReplicationInstalled = "installed"
	ReplicationRefused   = "refused"
)

// Replication is an order to a site to run a release; it never changes.
type Replication struct {
	// Code is the release's entry.
	Code string          `json:"code"`
	To   tiers.SiteID    `json:"to"`
	By   tiers.SiteID    `json:"by"`
	At   crdt.HybridTime `json:"at"`
	// Fields are the release as the site that orders knows it, so that the target
	// needs nothing else; Used is the version of the catalog that they are of.
	Fields Fields `json:"fields"`
	Used   Used   `json:"catalog_version,omitempty"`
	Note   string `json:"note,omitempty"`
}

// ReplicationOps returns the operations of a replication's first change. The error
// wraps [ErrInvalid].
func ReplicationOps(r Replication) ([]crdt.Op, error) {
	if err := r.To.Validate(); err != nil {
		return nil, fmt.Errorf("%w: to: %w", ErrInvalid, err)
	}
	if err := checkText("note", r.Note, nameBytesMax, false); err != nil {
		return nil, err
	}
	return headOps(r)
}

// ReplicationView is what people see of a replication.
type ReplicationView struct {
	ID     tiers.DocID  `json:"id"`
	Stream string       `json:"stream"`
	Site   tiers.SiteID `json:"site"`
	Replication
	State string `json:"state"`
	// Missing is what the target lacked.
	Missing []string `json:"missing,omitempty"`
	Steps   []Step   `json:"steps"`
	Pending int      `json:"pending,omitempty"`
	Refused int      `json:"refused_records,omitempty"`
}

// FoldReplication derives a replication's view. Only the target decides, once.
func FoldReplication(s *crdt.Source) (crdt.View, error) {
	v := ReplicationView{ID: s.Doc, Stream: s.Stream.String(), Site: s.Stream.Site, Pending: s.Pending, Refused: s.Refused, Steps: []Step{}}
	author, err := readHead(s, &v.Replication)
	if err != nil {
		return crdt.View{}, err
	}
	if v.To != s.Stream.Site || author != v.By {
		return crdt.View{}, fmt.Errorf("%w: %s in %s to %s was written by %s", ErrInvalid, s.Doc, s.Stream, v.To, author)
	}
	v.State = ReplicationOrdered
	for _, x := range readSteps(s) {
		switch {
		case x.Kind != ReplicationInstalled && x.Kind != ReplicationRefused:
			x.Overruled = fmt.Sprintf("step %.32q: want %s or %s", x.Kind, ReplicationInstalled, ReplicationRefused)
		case x.By != v.To:
			x.Overruled = fmt.Sprintf("%s is for site %s, not %s", x.Kind, v.To, x.By)
		case v.State != ReplicationOrdered:
			x.Overruled = "it is " + v.State + " already"
		default:
			v.State, v.Missing = x.Kind, x.Missing
		}
		v.Steps = append(v.Steps, x)
	}
	index := []crdt.IndexEntry{{Name: KindReplication, Value: s.Doc.Name()}}
	if v.State == ReplicationOrdered && v.Code != "" {
		index = append(index, crdt.IndexEntry{Name: IndexReplicationPending, Value: string(v.Site) + "/" + s.Doc.Name()})
	}
	return made(s, v, index...)
}

// Decide is the target's step on a replication: installed, or refused with what
// it lacks.
func (v *ReplicationView) Decide(at crdt.HybridTime, missing []string) (Step, crdt.Op, error) {
	x := Step{At: at, By: v.To, Kind: ReplicationInstalled}
	if len(missing) > 0 {
		x.Kind, x.Missing = ReplicationRefused, missing
	}
	op, err := x.op()
	return x, op, err
}
