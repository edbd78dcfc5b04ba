package node

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tiermesh/tiermesh/crdt/reading"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/tiers/indicator"
)

// Reading is one reading of a series.
type Reading struct {
	Series string
	reading.Point
	// Text is the value as the source wrote it; where it is set, Value is not looked at.
	Text *string
}

// Imported says what an import came to.
type Imported struct {
	replication.Written
	// Bad says why readings are left out, by their place.
	Bad map[int]error
	// Missing counts those that were taken in without a value.
	Missing int
	// New, Changed and Known count those that were taken in, where the import compares
	// them with what was there: those of a time that had none, those that replace
	// another, and those that were there already, which are not written again.
	New, Changed, Known int
}

// Import takes readings in at this site, durably; those that break a rule are left
// out and named, the others are taken in all the same. A reading that is no value by
// the definition that holds here now is kept as a gap. An import with a key that was
// used before returns the first one's place. With compare it tells new from old, and
// writes what is new under the key and its content. The error wraps
// [indicator.ErrInvalid], or the write outcomes of package replication.
func (n *Node) Import(ctx context.Context, key string, in []Reading, compare bool) (Imported, error) {
	out := Imported{Bad: map[int]error{}}
	x := intakeOf{n: n, now: n.opts.Now(), judges: map[string]*indicator.Judge{}, said: map[string][]said{}}
	if compare {
		x.before = map[hourOf]map[int64]said{}
	}
	for i, r := range in {
		err := x.take(&out, r)
		if err != nil && !errors.Is(err, indicator.ErrInvalid) {
			return out, err
		}
		if err != nil {
			out.Bad[i] = err
		}
	}
	for _, series := range x.batches() {
		batch, err := reading.AppendBatch(nil, series)
		if err != nil {
			return out, fmt.Errorf("%w: %w", indicator.ErrInvalid, err)
		}
		k := key
		if len(series[0].Gaps) > 0 || compare {
			k = fmt.Sprintf("%s:%x", key, sha256.Sum256(batch))
		}
		if out.Written, err = n.group.AppendReadings(ctx, k, n.group.Clock().Now(), batch); err != nil {
			return out, err
		}
		for _, s := range series {
			if x.judges[reading.Code(s.Name)].Watched() {
				n.indicators.touch(s)
			}
		}
	}
	return out, nil
}

// said is what a source said of one time: a value, or a gap.
type said struct {
	reading.Point
	gap *reading.Gap
}

func (s said) equal(o said) bool {
	if s.gap == nil || o.gap == nil {
		return s.gap == o.gap && s.Point == o.Point
	}
	return *s.gap == *o.gap
}

// hourOf names an hour of a series.
type hourOf struct {
	series string
	hour   uint32
}

// intakeOf collects the readings of an import.
type intakeOf struct {
	n      *Node
	now    time.Time
	judges map[string]*indicator.Judge
	names  []string
	said   map[string][]said
	// before is what was there, and what the import said so far; nil when nothing is
	// compared.
	before map[hourOf]map[int64]said
}

// take takes one reading up, or says why it breaks a rule.
func (x *intakeOf) take(out *Imported, r Reading) error {
	j, err := x.judge(r.Series)
	if err != nil {
		return err
	}
	var s said
	if s.Point, s.gap, err = j.Reading(r.Point, r.Text, x.now); err != nil {
		return err
	}
	if s.gap != nil && !x.n.group.WritesGaps() {
		return fmt.Errorf(`%w: %.40q is no value (%s), and this site cannot keep that yet: run "tiermesh raft upgrade" when all its nodes have this build`,
			indicator.ErrInvalid, s.gap.Text, s.gap.Reason)
	}
	if x.before != nil {
		old, was, err := x.replace(r.Series, s)
		switch {
		case err != nil:
			return err
		case was && s.equal(old):
			out.Known++
		case was:
			out.Changed++
		default:
			out.New++
		}
		if was && s.equal(old) {
			return nil
		}
	}
	if s.gap != nil {
		out.Missing++
	}
	if _, ok := x.said[r.Series]; !ok {
		x.names = append(x.names, r.Series)
	}
	x.said[r.Series] = append(x.said[r.Series], s)
	return nil
}

// judge returns the judge of a series' readings.
func (x *intakeOf) judge(series string) (*indicator.Judge, error) {
	if err := reading.ValidName(series); err != nil {
		return nil, fmt.Errorf("%w: %w", indicator.ErrInvalid, err)
	}
	code := reading.Code(series)
	if j, ok := x.judges[code]; ok {
		return j, nil
	}
	d, err := x.n.definition(code)
	if err != nil {
		return nil, err
	}
	if d.Code == "" {
		return nil, fmt.Errorf("%w: series %s: no indicator has the code %q; see tiermesh indicator list", indicator.ErrInvalid, series, code)
	}
	x.judges[code] = d.Judge()
	return x.judges[code], nil
}

// replace puts what is said of a time in the place of what was there.
func (x *intakeOf) replace(series string, s said) (old said, was bool, err error) {
	key := hourOf{series, reading.Hour(s.AtMS)}
	hour, ok := x.before[key]
	if !ok {
		hour = map[int64]said{}
		from := int64(key.hour) * reading.HourMS
		points, gaps, err := x.n.group.Store().ReadingsAndGaps(x.n.creds.ID.Site, series, from, from+reading.HourMS, 1<<30)
		if err != nil {
			return said{}, false, err
		}
		for _, p := range points {
			hour[p.AtMS] = said{Point: p}
		}
		for _, g := range gaps {
			hour[g.AtMS] = said{Point: reading.Point{AtMS: g.AtMS}, gap: &g}
		}
		x.before[key] = hour
	}
	old, was = hour[s.AtMS]
	hour[s.AtMS] = s
	return old, was, nil
}

// gapsMax bounds the gaps of a record, so that it stays below [reading.BytesMax].
const gapsMax = 512

// batches divides what was said into records: one of values, and gaps behind it. Of
// a value and a gap for one time the one that came last is kept.
func (x *intakeOf) batches() (out [][]reading.Series) {
	var values, gaps []reading.Series
	left := 0 // room for gaps in the last record
	for _, name := range x.names {
		all := x.said[name]
		if slices.ContainsFunc(all, func(s said) bool { return s.gap != nil }) {
			all = lasts(all)
		}
		v := reading.Series{Name: name}
		for _, s := range all {
			if s.gap == nil {
				v.Points = append(v.Points, s.Point)
				continue
			}
			if left == 0 {
				out, gaps, left = appendRecord(out, gaps), nil, gapsMax
			}
			gaps = append(gaps, reading.Series{Name: name, Gaps: []reading.Gap{*s.gap}})
			left--
		}
		values = append(values, v)
	}
	out = appendRecord(out, gaps)
	values = slices.DeleteFunc(values, func(s reading.Series) bool { return len(s.Points) == 0 })
	return append(appendRecord(nil, values), out...)
}

func appendRecord(out [][]reading.Series, series []reading.Series) [][]reading.Series {
	if len(series) == 0 {
		return out
	}
	return append(out, series)
}

// lasts keeps of each time what was said last, in the order of time.
func lasts(all []said) (out []said) {
	byTime := func(a, b said) int { return cmp.Compare(a.AtMS, b.AtMS) }
	all = slices.Clone(all)
	slices.SortStableFunc(all, byTime)
	for i, s := range all {
		if i+1 == len(all) || all[i+1].AtMS != s.AtMS {
			out = append(out, s)
		}
	}
	return out
}
