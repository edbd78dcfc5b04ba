package responder

import (
	"fmt"
	"slices"
	"time"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// ClockError is by how much a site's clock may be wrong without two sites ever
// being allowed to send a lent unit at once.
const ClockError = time.Hour

// Bounds of a lease: what is shorter leaves the borrower no time, and what is
// longer a lost borrower would keep for too long.
const (
	LeaseMin = 3 * ClockError
	LeaseMax = 31 * 24 * time.Hour
	unitsMax = 200
)

// Lent is a unit of a pool, the epoch in which its home claimed it for that, and
// what the borrower has to know of it: it does not hold its row of the registry.
type Lent struct {
	Unit   string   `json:"unit"`
	Epoch  uint64   `json:"epoch"`
	Name   string   `json:"name"`
	Kind   string   `json:"kind"`
	Organ  string   `json:"organ"`
	Skills []string `json:"skills"`
	// Lat and Lon are where it was when it was lent; nil when that was not known.
	Lat *float64 `json:"lat,omitempty"`
	Lon *float64 `json:"lon,omitempty"`
}

// Pool is units that their home lends to a site below it.
type Pool struct {
	Home  tiers.SiteID `json:"home"`
	Child tiers.SiteID `json:"child"`
	Units []Lent       `json:"units"`
	// UntilMS is the lease's first end, LentAtMS when it began by the home's
	// clock, in Unix milliseconds.
	UntilMS  int64  `json:"until_ms"`
	LentAtMS int64  `json:"lent_at_ms"`
	Reason   string `json:"reason"`
}

// CheckLease checks a lease's end. The error wraps [ErrInvalid].
func CheckLease(untilMS int64, now time.Time) error {
	first, last := now.Add(LeaseMin), now.Add(LeaseMax)
	if untilMS < first.UnixMilli() || untilMS > last.UnixMilli() {
		return fmt.Errorf("%w: until %d (%s): want %s to %s, %s to %s from now", ErrInvalid, untilMS, stamp(untilMS),
			stamp(first.UnixMilli()), stamp(last.UnixMilli()), LeaseMin, LeaseMax)
	}
	return nil
}

// CheckUnits checks the units of a pool. The error wraps [ErrInvalid].
func CheckUnits(codes []string) error {
	if len(codes) == 0 || len(codes) > unitsMax {
		return fmt.Errorf("%w: %d units: want 1 to %d", ErrInvalid, len(codes), unitsMax)
	}
	for i, c := range codes {
		if err := checkCode(c); err != nil {
			return err
		}
		if slices.Contains(codes[:i], c) {
			return fmt.Errorf("%w: unit %s twice", ErrInvalid, c)
		}
	}
	return nil
}

// PoolOps returns the operations of a pool's first change.
func PoolOps(p Pool) ([]crdt.Op, error) {
	if err := CheckReason(p.Reason); err != nil {
		return nil, err
	}
	return createOps(keyPool, p)
}

// The steps of a pool: the home makes the lease longer, the borrower hands
// everything back, the home takes everything back.
const (
	StepExtend   = "extend"
	StepHandBack = "handback"
	StepTakeBack = "takeback"
)

// The states of a pool.
const (
	PoolLent     = "lent"
	PoolReturned = "returned" // the home has not freed the units yet
	PoolTaken    = "taken"    // the end
)

// PoolView is what people see of a pool.
type PoolView struct {
	ID     tiers.DocID  `json:"id"`
	Stream string       `json:"stream"`
	Site   tiers.SiteID `json:"site"`
	State  string       `json:"state"`
	Pool   Pool         `json:"pool"`
	// UntilMS is the lease's end with all extensions, in Unix milliseconds.
	UntilMS int64 `json:"until_ms"`
	// AssignUntilMS is when the borrower stops by its clock, TakeFromMS when the
	// home may take back by its own.
	AssignUntilMS int64   `json:"assign_until_ms"`
	TakeFromMS    int64   `json:"take_from_ms"`
	Reason        string  `json:"reason,omitempty"`
	Entries       []Entry `json:"entries"`
	Pending       int     `json:"pending,omitempty"`
	Refused       int     `json:"refused,omitempty"`
}

// IndexPoolOpen lists the pools whose units are lent.
const IndexPoolOpen = KindPool + ".open"

// FoldPool derives a pool's view. Steps count when their site itself wrote them.
func FoldPool(s *crdt.Source) (crdt.View, error) {
	v := PoolView{ID: s.Doc, Stream: s.Stream.String(), Site: s.Stream.Site, State: PoolLent, Pending: s.Pending, Refused: s.Refused}
	if err := head(s, keyPool, &v.Pool); err != nil {
		return crdt.View{}, err
	}
	v.Entries = entries(s, func(e Entry, author tiers.SiteID) bool {
		if e.By != author {
			return false
		}
		switch e.Kind {
		case StepExtend, StepTakeBack:
			return author == v.Pool.Home
		case StepHandBack:
			return author == v.Pool.Child
		}
		return false
	})
	v.UntilMS = v.Pool.UntilMS
	for _, e := range v.Entries {
		switch {
		case e.Kind == StepExtend:
			v.UntilMS = max(v.UntilMS, e.UntilMS)
		case e.Kind == StepHandBack && v.State == PoolLent:
			v.State = PoolReturned
		case e.Kind == StepTakeBack:
			v.State, v.Reason = PoolTaken, e.Reason
		}
	}
	v.AssignUntilMS, v.TakeFromMS = v.UntilMS-ClockError.Milliseconds(), v.UntilMS+ClockError.Milliseconds()
	index := []crdt.IndexEntry{{Name: KindPool, Value: s.Doc.Name()}}
	if v.State != PoolTaken && v.Pool.Home != "" {
		index = append(index, crdt.IndexEntry{Name: IndexPoolOpen, Value: s.Doc.Name()})
	}
	return made(s, v, index...)
}

// MayAssign tells whether the borrower may send units of the pool at a time by
// its own clock. The error wraps [ErrNow] and says why not.
func (v PoolView) MayAssign(now time.Time) error {
	switch {
	case v.State != PoolLent:
		return fmt.Errorf("%w: %s is %s", ErrNow, v.ID, v.State)
	case now.UnixMilli() >= v.AssignUntilMS:
		return fmt.Errorf("%w: the lease of %s ends at %s, and a clock may be wrong by %s: no unit of it is sent from %s on; ask site %s to extend it",
			ErrNow, v.ID, stamp(v.UntilMS), ClockError, stamp(v.AssignUntilMS), v.Pool.Home)
	}
	return nil
}

// MayTakeBack tells whether the home may take the units back, without force, at
// a time by its own clock. The error wraps [ErrNow] and says why not.
func (v PoolView) MayTakeBack(now time.Time) error {
	switch {
	case v.State == PoolTaken:
		return fmt.Errorf("%w: %s was taken back already", ErrNow, v.ID)
	case v.State == PoolLent && now.UnixMilli() < v.TakeFromMS:
		return fmt.Errorf("%w: %s is lent to site %s until %s, and a clock may be wrong by %s: it can be taken back from %s on, or by force",
			ErrNow, v.ID, v.Pool.Child, stamp(v.UntilMS), ClockError, stamp(v.TakeFromMS))
	}
	return nil
}

// Lent returns the pool's unit, if it is one.
func (v PoolView) Lent(code string) (Lent, bool) {
	i := slices.IndexFunc(v.Pool.Units, func(l Lent) bool { return l.Unit == code })
	if i < 0 {
		return Lent{}, false
	}
	return v.Pool.Units[i], true
}

// LentResource is the name under which the borrower's Raft grants a unit of a
// pool.
func LentResource(pool tiers.DocID, code string) string { return "lent/" + pool.Name() + "/" + code }
