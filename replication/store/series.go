package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/reading"
	"github.com/tiermesh/tiermesh/tiers"
)

// hours calls f with a part of a series, from hour first to before, in order.
func (s *Store) hours(site tiers.SiteID, series string, part byte, first, before uint32, f func(hour uint32, v []byte) error) error {
	if first >= before {
		return nil
	}
	it, err := s.db.NewIter(&pebble.IterOptions{
		LowerBound: keyHour(site, series, part, first), UpperBound: keyHour(site, series, part, before),
	})
	if err != nil {
		return fmt.Errorf("read series: %w", err)
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		k := it.Key()
		err = f(binary.BigEndian.Uint32(k[len(k)-4:]), it.Value())
	}
	return errors.Join(err, it.Error(), it.Close())
}

// hourSpan returns the hours that a stretch of time, in milliseconds, touches.
func hourSpan(fromMS, toMS int64) (first, before uint32) {
	if toMS <= fromMS {
		return 0, 0
	}
	return reading.Hour(max(fromMS, 0)), reading.Hour(min(toMS-1, reading.TimeMaxMS-1)) + 1
}

// Readings returns the readings of a series at a site from one time to before
// another, in Unix milliseconds, in order, up to limit: numbers as they were
// written, whatever they are worth, and none for a gap. Readings that were dropped
// are not among them; see [Store.Rollups].
func (s *Store) Readings(site tiers.SiteID, series string, fromMS, toMS int64, limit int) ([]reading.Point, error) {
	points, _, err := s.readings(site, series, fromMS, toMS, func(points []reading.Point, _ []reading.Gap) bool { return len(points) >= limit })
	return points[:min(limit, len(points))], err
}

// ReadingsAndGaps is like [Store.Readings], with gaps, and limit counts both.
func (s *Store) ReadingsAndGaps(site tiers.SiteID, series string, fromMS, toMS int64, limit int) ([]reading.Point, []reading.Gap, error) {
	points, gaps, err := s.readings(site, series, fromMS, toMS, func(points []reading.Point, gaps []reading.Gap) bool {
		return len(points)+len(gaps) >= limit
	})
	for len(points)+len(gaps) > limit { // the latest go
		if len(gaps) == 0 || len(points) > 0 && points[len(points)-1].AtMS > gaps[len(gaps)-1].AtMS {
			points = points[:len(points)-1]
		} else {
			gaps = gaps[:len(gaps)-1]
		}
	}
	return points, gaps, err
}

// readings collects whole hours until enough says so.
func (s *Store) readings(
	site tiers.SiteID, series string, fromMS, toMS int64, enough func([]reading.Point, []reading.Gap) bool,
) (points []reading.Point, gaps []reading.Gap, err error) {
	if err := s.usage.enter(); err != nil {
		return nil, nil, err
	}
	defer s.usage.leave()
	first, before := hourSpan(fromMS, toMS)
	err = s.hours(site, series, partReadings, first, before, func(hour uint32, v []byte) error {
		ps, gs, err := reading.Both(v, hour)
		if err != nil {
			return fmt.Errorf("%w: series %s: %w", ErrCorrupt, series, err)
		}
		for _, p := range ps {
			if p.AtMS >= fromMS && p.AtMS < toMS {
				points = append(points, p)
			}
		}
		for _, g := range gs {
			if g.AtMS >= fromMS && g.AtMS < toMS {
				gaps = append(gaps, g)
			}
		}
		if enough(points, gaps) {
			return errEnough
		}
		return nil
	})
	if errors.Is(err, errEnough) {
		err = nil
	}
	return points, gaps, err
}

// Rollups calls f with the rollups of a series at a site that begin from one time
// to before another, in order: each of size milliseconds, a minute or whole hours, of
// which one begins at offset, a whole hour. Where only coarser ones were kept, those are merged
// into the stretch that they begin in. Readings that are not values only count as
// missing; what was dropped was judged then. It stops early when f returns false.
func (s *Store) Rollups(
	site tiers.SiteID, series string, values reading.Range, fromMS, toMS, size, offset int64, f func(reading.Rollup) bool,
) error {
	if err := s.usage.enter(); err != nil {
		return err
	}
	defer s.usage.leave()
	if size != reading.MinuteMS && (size < reading.HourMS || size%reading.HourMS != 0) || offset%reading.HourMS != 0 {
		return fmt.Errorf("%w: rollups of %d ms at %d: want a minute, or whole hours", reading.ErrInvalid, size, offset)
	}
	fromMS = max(fromMS, 0) - ((max(fromMS, 0)-offset)%size+size)%size // where the first one begins
	first, before := hourSpan(fromMS, toMS)
	if end := toMS - 1; end >= 0 { // and the last one ends
		end += size - 1 - ((end-offset)%size+size)%size
		_, before = hourSpan(fromMS, end+1)
	}
	var at reading.Rollup
	emit := func() error {
		if at.Count+at.Missing > 0 && at.StartMS < toMS && !f(at) {
			return errEnough
		}
		return nil
	}
	err := s.eachHour(site, series, values, first, before, func(_ uint32, in []reading.Rollup) error {
		for _, r := range reading.Coarser(in, min(size, reading.HourMS), 0) {
			start := r.StartMS - ((r.StartMS-offset)%size+size)%size
			if start != at.StartMS || at.Count+at.Missing == 0 {
				if err := emit(); err != nil {
					return err
				}
				at = reading.Rollup{StartMS: start}
			}
			if r.StartMS >= fromMS {
				at.Merge(r)
			}
		}
		return nil
	})
	if err == nil {
		err = emit()
	}
	if errors.Is(err, errEnough) {
		err = nil
	}
	return err
}

// eachHour calls f with the finest rollups of each hour of a series, in order. The
// three parts of a series never hold the same hour.
func (s *Store) eachHour(site tiers.SiteID, series string, values reading.Range, first, before uint32, f func(uint32, []reading.Rollup) error) error {
	snap := s.db.NewSnapshot() // a Thin moves hours between parts
	defer func() { _ = snap.Close() }()
	type source struct {
		part byte
		it   *pebble.Iterator
		ok   bool
	}
	var sources []*source
	var failed error
	for _, part := range []byte{partHours, partMinutes, partReadings} {
		it, err := snap.NewIter(&pebble.IterOptions{LowerBound: keyHour(site, series, part, first), UpperBound: keyHour(site, series, part, max(before, first))})
		if err != nil {
			failed = fmt.Errorf("read series: %w", err)
			break
		}
		sources = append(sources, &source{part, it, it.First()})
	}
	hourOf := func(s *source) uint32 { k := s.it.Key(); return binary.BigEndian.Uint32(k[len(k)-4:]) }
	for failed == nil {
		var next *source
		for _, s := range sources {
			if s.ok && (next == nil || hourOf(s) < hourOf(next)) {
				next = s
			}
		}
		if next == nil {
			break
		}
		rollups, err := rollupsOf(next.part, hourOf(next), next.it.Value(), values)
		if err == nil {
			err = f(hourOf(next), rollups)
		}
		failed = err
		next.ok = next.it.Next()
	}
	for _, s := range sources {
		failed = errors.Join(failed, s.it.Error(), s.it.Close())
	}
	return failed
}

// Series lists the series of a site in order of their names: up to limit of those
// behind after whose code is code, or of all when that is empty.
func (s *Store) Series(site tiers.SiteID, code, after string, limit int) ([]string, error) {
	if err := s.usage.enter(); err != nil {
		return nil, err
	}
	defer s.usage.leave()
	return s.series(site, code, after, limit)
}

func (s *Store) seriesOf(site tiers.SiteID, code string) ([]string, error) {
	return s.series(site, code, "", 1<<30)
}

func (s *Store) series(site tiers.SiteID, code, after string, limit int) ([]string, error) {
	all := keySeries(site, "")
	bounds := pebble.IterOptions{LowerBound: append(slices.Clone(all), code...)}
	bounds.UpperBound = prefixEnd(bounds.LowerBound)
	it, err := s.db.NewIter(&bounds)
	if err != nil {
		return nil, fmt.Errorf("list series: %w", err)
	}
	ok := it.First()
	if after != "" {
		ok = it.SeekGE(prefixEnd(keySeries(site, after)))
	}
	var out []string
	for ok && len(out) < limit {
		rest := it.Key()[len(all):]
		end := bytes.IndexByte(rest, 0)
		if end < 0 || end+1 >= len(rest) {
			err = fmt.Errorf("%w: key of a series", ErrCorrupt)
			break
		}
		name := string(rest[:end])
		if rest[end+1] == partLimits { // no part of a series
			ok = it.Next()
			continue
		}
		if code == "" || reading.Code(name) == code {
			out = append(out, name)
		}
		ok = it.SeekGE(prefixEnd(keySeries(site, name)))
	}
	return out, errors.Join(err, it.Error(), it.Close())
}

// SeriesLast is the end of a series.
type SeriesLast struct {
	// Value is the last value, or the last of the last rollup; Known says that there
	// is one.
	Value reading.Point
	Known bool
	// Gap is the last reading where that has no value.
	Gap *reading.Gap
}

// LastReading returns the end of a series, as far as numbers are values; false when
// nothing of it is here.
func (s *Store) LastReading(site tiers.SiteID, series string, values reading.Range) (last SeriesLast, held bool, err error) {
	if err := s.usage.enter(); err != nil {
		return last, false, err
	}
	defer s.usage.leave()
	for _, part := range []byte{partReadings, partMinutes, partHours} {
		prefix := append(keySeries(site, series), part)
		it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: prefixEnd(prefix)})
		if err != nil {
			return last, false, fmt.Errorf("read series: %w", err)
		}
		for ok := it.Last(); ok && err == nil && !last.Known; ok = it.Prev() {
			held = true
			k := it.Key()
			err = last.take(part, binary.BigEndian.Uint32(k[len(k)-4:]), it.Value(), values)
		}
		if err := errors.Join(err, it.Error(), it.Close()); err != nil || last.Known {
			return last, held, err
		}
	}
	return last, held, nil
}

// take looks for the end in an hour before those that were looked at.
func (l *SeriesLast) take(part byte, hour uint32, v []byte, values reading.Range) error {
	if part != partReadings {
		rollups, err := rollupsOf(part, hour, v, values)
		for _, r := range slices.Backward(rollups) {
			if r.Count > 0 && values.Holds(r.Last) {
				l.Value, l.Known = reading.Point{AtMS: r.LastMS, Value: r.Last}, true
				break
			}
		}
		return err
	}
	points, gaps, err := reading.Both(v, hour)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	points, gaps = values.Part(points, gaps)
	if n := len(points); n > 0 {
		l.Value, l.Known = points[n-1], true
	}
	if n := len(gaps); n > 0 && l.Gap == nil && (!l.Known || gaps[n-1].AtMS > l.Value.AtMS) {
		l.Gap = &gaps[n-1]
	}
	return nil
}

// SeriesKept says what of an indicator's series at a site was dropped.
type SeriesKept struct {
	// ReadingsFromMS and MinutesFromMS are the times from which readings and minute
	// rollups are kept; 0 for all.
	ReadingsFromMS, MinutesFromMS int64
	// Late counts readings that came after they would have been dropped.
	Late uint64
}

// Kept returns what was dropped of an indicator's series at a site.
func (s *Store) Kept(site tiers.SiteID, code string) (SeriesKept, error) {
	if err := s.usage.enter(); err != nil {
		return SeriesKept{}, err
	}
	defer s.usage.leave()
	l, err := s.limits(site, code)
	return SeriesKept{int64(l.readings) * reading.HourMS, int64(l.minutes) * reading.HourMS, l.late}, err
}

// LastReadingTime returns the hybrid time of the last record of a site's newest
// chain of readings: what that site wrote until then is here. Zero for none.
func (s *Store) LastReadingTime(site tiers.SiteID) (crdt.HybridTime, error) {
	if err := s.usage.enter(); err != nil {
		return 0, err
	}
	defer s.usage.leave()
	stream := tiers.StreamID{Site: site, Class: tiers.ClassReading}
	v := s.Vector(stream)
	if len(v) == 0 {
		return 0, nil
	}
	last := slices.MaxFunc(v.Authors(), crdt.Author.Compare)
	_, enc, err := s.recordAt(crdt.ChainID{Stream: stream, Author: last}, v[last].Seq)
	if err != nil {
		return 0, err
	}
	rec, err := crdt.DecodeRecord(enc)
	return rec.Time, err
}

// scrubReadings holds what is kept of each series against the records. Each
// segment counts once, in any order; hours that were thinned are only decoded.
func (s *Store) scrubReadings(ctx context.Context, r *ScrubResult) error {
	for _, stream := range s.Streams() {
		if stream.Class != tiers.ClassReading {
			continue
		}
		if err := s.scrubStream(ctx, r, stream); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) scrubStream(ctx context.Context, r *ScrubResult, stream tiers.StreamID) error {
	if err := s.usage.enter(); err != nil {
		return err
	}
	defer s.usage.leave()
	snap := s.db.NewSnapshot() // writes go on
	defer func() { _ = snap.Close() }()
	x := seriesScrub{
		ctx: ctx, snap: snap, stream: stream, seed: maphash.MakeSeed(), sums: map[string]uint64{}, limits: map[string]seriesLimits{},
		bad: func(series, what string) {
			r.add(Finding{Stream: stream.String(), What: "series " + series + ": " + what})
		},
	}
	all := keySeries(stream.Site, "")
	err := x.scan(all, func(k, v []byte) { x.limit(k[len(all):], v) })
	err = errors.Join(err, x.scan(appendStream([]byte{tableRecord}, stream), func(_, v []byte) { x.record(v) }))
	err = errors.Join(err, x.scan(all, func(k, v []byte) { x.block(k[len(all):], v) }))
	if err != nil {
		x.bad("(any)", "cannot be read: "+err.Error())
	}
	for _, series := range slices.Sorted(maps.Keys(x.sums)) {
		if x.sums[series] != 0 && ctx.Err() == nil {
			x.bad(series, "its readings are not those of its records")
		}
	}
	return ctx.Err()
}

// seriesScrub is the scrub of one stream of readings.
type seriesScrub struct {
	ctx    context.Context
	snap   *pebble.Snapshot
	stream tiers.StreamID
	seed   maphash.Seed
	// sums are, of each series, what records say less what blocks hold.
	sums   map[string]uint64
	limits map[string]seriesLimits
	bad    func(series, what string)
}

func (x *seriesScrub) scan(prefix []byte, f func(k, v []byte)) error {
	it, err := x.snap.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: prefixEnd(prefix)})
	if err != nil {
		return err
	}
	for ok := it.First(); ok && x.ctx.Err() == nil; ok = it.Next() {
		f(it.Key(), it.Value())
	}
	return errors.Join(it.Error(), it.Close())
}

// sum is one segment's share of a series.
func (x *seriesScrub) sum(series string, hour uint32, enc []byte) uint64 {
	var h maphash.Hash
	h.SetSeed(x.seed)
	_, _ = h.WriteString(series)
	_, _ = h.Write(binary.BigEndian.AppendUint32(nil, hour))
	_, _ = h.Write(enc)
	return h.Sum64()
}

// limit takes up an indicator's limits; rest is the key behind the site.
func (x *seriesScrub) limit(rest, v []byte) {
	if code, part, ok := bytes.Cut(rest, []byte{0}); ok && len(part) == 1 && part[0] == partLimits {
		x.limits[string(code)], _ = decodeLimits(v)
	}
}

// record adds a record's readings that should be there.
func (x *seriesScrub) record(v []byte) {
	if len(v) < 32 {
		return // the chain's scrub names it
	}
	rec, err := crdt.DecodeRecord(v[32:])
	if err != nil {
		return // likewise
	}
	in, _ := readingsOf(x.stream, rec) // none of one that is refused
	for _, s := range in {
		for part := range segments(s) {
			if part.hour >= x.limits[reading.Code(s.Name)].readings {
				x.sums[s.Name] += x.sum(s.Name, part.hour, part.appendTo(nil, rec.Time))
			}
		}
	}
}

// block takes away what is there; rest is the key behind the site.
func (x *seriesScrub) block(rest, v []byte) {
	end := bytes.IndexByte(rest, 0)
	if end < 0 || len(rest) != end+6 {
		return
	}
	series, part, hour := string(rest[:end]), rest[end+1], binary.BigEndian.Uint32(rest[end+2:])
	if part != partReadings || hour < x.limits[reading.Code(series)].readings {
		if _, err := rollupsOf(part, hour, v, reading.Range{}); err != nil {
			x.bad(series, err.Error())
		}
		return
	}
	err := reading.Segments(v, hour, func(enc []byte) { x.sums[series] -= x.sum(series, hour, enc) })
	if err != nil {
		x.bad(series, err.Error())
	}
}
