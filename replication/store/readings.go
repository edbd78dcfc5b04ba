package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/reading"
	"github.com/tiermesh/tiermesh/tiers"
)

// ReadingDoc is the document that records of readings name; there is none of that
// name.
const ReadingDoc tiers.DocID = "reading:batch"

// The parts of a series in its table.
const (
	partReadings = 'p'
	partMinutes  = 'm'
	partHours    = 'h'
	partLimits   = 'e'
)

// keySeries is the prefix of one series of a site; of all when series is empty.
func keySeries(site tiers.SiteID, series string) []byte {
	b := append([]byte{tableSeries}, site...)
	b = append(b, 0)
	if series == "" {
		return b
	}
	return append(append(b, series...), 0)
}

func keyHour(site tiers.SiteID, series string, part byte, hour uint32) []byte {
	return binary.BigEndian.AppendUint32(append(keySeries(site, series), part), hour)
}

// seriesLimits says what of an indicator's series at a site was dropped.
type seriesLimits struct {
	// readings and minutes are the hours before which readings, and minute rollups,
	// are dropped; minutes is at most readings.
	readings, minutes uint32
	// late counts readings that came after that, and were left out.
	late uint64
	// values says which numbers were values when readings were dropped last.
	values reading.Range
}

func (l seriesLimits) encode() []byte {
	b := binary.BigEndian.AppendUint32(nil, l.readings)
	b = binary.BigEndian.AppendUint32(b, l.minutes)
	b = binary.BigEndian.AppendUint64(b, l.late)
	return appendRange(b, l.values)
}

func decodeLimits(v []byte) (seriesLimits, bool) {
	d := decoder{b: v}
	l := seriesLimits{readings: d.u32(), minutes: d.u32(), late: d.u64()}
	l.values = d.valueRange()
	return l, !d.bad && len(d.b) == 0
}

// appendRange appends which numbers are values; nothing where all are, as it was
// before there were ranges.
func appendRange(b []byte, r reading.Range) []byte {
	if r.Min == nil && r.Max == nil && len(r.Not) == 0 {
		return b
	}
	for _, bound := range []*float64{r.Min, r.Max} {
		if bound == nil {
			b = append(b, 0)
			continue
		}
		b = binary.BigEndian.AppendUint64(append(b, 1), math.Float64bits(*bound))
	}
	for _, v := range r.Not {
		b = binary.BigEndian.AppendUint64(b, math.Float64bits(v))
	}
	return b
}

func (d *decoder) valueRange() (r reading.Range) {
	if len(d.b) == 0 {
		return r
	}
	for _, into := range []**float64{&r.Min, &r.Max} {
		if d.u8() != 0 {
			v := math.Float64frombits(d.u64())
			*into = &v
		}
	}
	for !d.bad && len(d.b) > 0 {
		r.Not = append(r.Not, math.Float64frombits(d.u64()))
	}
	return r
}

// limits returns what of an indicator's series was dropped.
func (s *Store) limits(site tiers.SiteID, code string) (seriesLimits, error) {
	v, err := s.get(append(keySeries(site, code), partLimits))
	if errors.Is(err, ErrNotFound) {
		return seriesLimits{}, nil
	}
	l, ok := decodeLimits(v)
	if err == nil && !ok {
		err = fmt.Errorf("%w: limits of %s at %s", ErrCorrupt, code, site)
	}
	return l, err
}

func (t *Tx) limitsAt(site tiers.SiteID, code string) (seriesLimits, error) {
	key := string(site) + "\x00" + code
	if l, ok := t.limitsOf[key]; ok {
		return l, nil
	}
	l, err := t.s.limits(site, code)
	if err == nil {
		t.limitsOf[key] = l
	}
	return l, err
}

func (t *Tx) setLimits(site tiers.SiteID, code string, l seriesLimits) error {
	t.limitsOf[string(site)+"\x00"+code] = l
	return t.batch.Set(append(keySeries(site, code), partLimits), l.encode(), nil)
}

// AppendReadings writes a batch of readings of author's own (package crdt/reading)
// to its site's stream of class reading. It rejects a malformed one with
// [ErrBadChange].
func (t *Tx) AppendReadings(author crdt.Author, at crdt.HybridTime, batch []byte) (Placed, error) {
	in, err := reading.DecodeBatch(batch)
	if err != nil {
		return Placed{}, fmt.Errorf("%w: %w", ErrBadChange, err)
	}
	chain := crdt.ChainID{Stream: tiers.StreamID{Site: author.Site, Class: tiers.ClassReading}, Author: author}
	rec := crdt.Record{Kind: crdt.RecordReadings, Time: at, Doc: ReadingDoc, Body: batch}
	seq, err := t.putRecord(chain, rec.AppendTo(nil))
	if err != nil {
		return Placed{}, err
	}
	return Placed{Chain: chain, Seq: seq}, t.putReadings(author.Site, at, in)
}

// takeReadings puts a record's readings into their series. One that is malformed,
// or in a stream that holds no readings, is refused: kept, counted and forwarded.
func (t *Tx) takeReadings(chain crdt.ChainID, seq uint64, rec crdt.Record) error {
	in, err := readingsOf(chain.Stream, rec)
	if err != nil {
		t.refused++
		return t.batch.Set(keyRefusedReadings(chain, seq), []byte(err.Error()), nil)
	}
	return t.putReadings(chain.Stream.Site, rec.Time, in)
}

// keyRefusedReadings is under no document's refused records.
func keyRefusedReadings(c crdt.ChainID, seq uint64) []byte {
	return keyRefused(DocKey{Stream: c.Stream}, ref{c.Author, seq})
}

// readingsOf decodes a record's readings; none for one of another kind. refused
// says why they take no part.
func readingsOf(stream tiers.StreamID, rec crdt.Record) (in []reading.Series, refused error) {
	if rec.Kind != crdt.RecordReadings {
		return nil, nil
	}
	if stream.Class != tiers.ClassReading {
		return nil, fmt.Errorf("readings in a stream of class %s", stream.Class)
	}
	return reading.DecodeBatch(rec.Body)
}

// putReadings adds a segment to each hour that a batch touches. Nothing is read but
// the limits: segments are put behind each other by Pebble, and what they come to
// does not depend on their order.
func (t *Tx) putReadings(site tiers.SiteID, at crdt.HybridTime, in []reading.Series) error {
	var buf []byte
	for _, s := range in {
		code := reading.Code(s.Name)
		l, err := t.limitsAt(site, code)
		if err != nil {
			return err
		}
		late := l.late
		for x := range segments(s) {
			if x.hour < l.readings {
				l.late += uint64(x.len())
				continue
			}
			buf = x.appendTo(buf[:0], at)
			if err := t.batch.Merge(keyHour(site, s.Name, partReadings, x.hour), buf, nil); err != nil {
				return err
			}
		}
		if l.late != late {
			if err := t.setLimits(site, code, l); err != nil {
				return err
			}
		}
	}
	return nil
}

// segment is what a batch says of one hour of a series: points or gaps.
type segment struct {
	hour   uint32
	points []reading.Point
	gaps   []reading.Gap
}

func (s segment) len() int { return len(s.points) + len(s.gaps) }

func (s segment) appendTo(b []byte, at crdt.HybridTime) []byte {
	if len(s.gaps) > 0 {
		return reading.AppendGapSegment(b, s.hour, uint64(at), s.gaps)
	}
	return reading.AppendSegment(b, s.hour, uint64(at), s.points)
}

// segments yields the hours of a series of a batch.
func segments(s reading.Series) func(yield func(segment) bool) {
	return func(yield func(segment) bool) {
		for hour, points := range byHour(s.Points, func(p reading.Point) int64 { return p.AtMS }) {
			if !yield(segment{hour: hour, points: points}) {
				return
			}
		}
		for hour, gaps := range byHour(s.Gaps, func(g reading.Gap) int64 { return g.AtMS }) {
			if !yield(segment{hour: hour, gaps: gaps}) {
				return
			}
		}
	}
}

// byHour yields the runs of readings that are in one hour.
func byHour[T any](in []T, at func(T) int64) func(yield func(uint32, []T) bool) {
	return func(yield func(uint32, []T) bool) {
		for len(in) > 0 {
			hour, n := reading.Hour(at(in[0])), 1
			for n < len(in) && reading.Hour(at(in[n])) == hour {
				n++
			}
			if !yield(hour, in[:n]) {
				return
			}
			in = in[n:]
		}
	}
}

// Thin asks to drop what is older than an indicator's limits, at one site.
type Thin struct {
	Site tiers.SiteID
	Code string
	// Readings and Minutes are the hours before which readings become minute
	// rollups, and minute rollups hour rollups. Limits never go back.
	Readings, Minutes uint32
	// Values says which numbers are values; the others are only counted, as missing.
	Values reading.Range
}

// thinMax bounds the hours that one [Tx.Thin] works on.
const thinMax = 2048

// Thin drops readings, or minute rollups, behind the limits, and leaves their
// rollups. From then on readings before them are counted as late and left out. It
// needs an empty Tx, and returns how many hours it worked on; more may be left
// when that is [thinMax]: call it again.
func (t *Tx) Thin(th Thin) (int, error) {
	l, err := t.limitsAt(th.Site, th.Code)
	if err != nil {
		return 0, err
	}
	l.readings = max(l.readings, th.Readings)
	l.minutes = max(l.minutes, min(th.Minutes, l.readings))
	l.values = th.Values
	if err := t.setLimits(th.Site, th.Code, l); err != nil {
		return 0, err
	}
	names, err := t.s.seriesOf(th.Site, th.Code)
	if err != nil {
		return 0, err
	}
	done := 0
	for _, name := range names {
		n, err := t.thinSeries(th.Site, name, l, thinMax-done)
		if done += n; err != nil || done >= thinMax {
			return done, err
		}
	}
	return done, nil
}

func (t *Tx) thinSeries(site tiers.SiteID, name string, l seriesLimits, most int) (done int, err error) {
	for _, step := range []struct {
		part   byte
		before uint32
	}{{partReadings, l.readings}, {partMinutes, l.minutes}} {
		err := t.s.hours(site, name, step.part, 0, step.before, func(hour uint32, v []byte) error {
			if done == most {
				return errEnough
			}
			done++
			rollups, err := rollupsOf(step.part, hour, v, l.values)
			if err != nil {
				return err
			}
			if err := t.putRollups(site, name, hour, rollups, l); err != nil {
				return err
			}
			return t.batch.Delete(keyHour(site, name, step.part, hour), nil)
		})
		if err != nil && !errors.Is(err, errEnough) {
			return done, err
		}
	}
	return done, nil
}

// errEnough ends a walk.
var errEnough = errors.New("store: enough")

// putRollups keeps of an hour whose readings are dropped what the limits say.
func (t *Tx) putRollups(site tiers.SiteID, name string, hour uint32, rollups []reading.Rollup, l seriesLimits) error {
	part := byte(partMinutes)
	if hour < l.minutes {
		part, rollups = partHours, reading.Coarser(rollups, reading.HourMS, 0)
	}
	return t.batch.Set(keyHour(site, name, part, hour), reading.AppendRollups(nil, hour, rollups), nil)
}

// rollupsOf returns the finest rollups that a value of a part holds. Of readings,
// those that are no values are counted as missing.
func rollupsOf(part byte, hour uint32, v []byte, values reading.Range) ([]reading.Rollup, error) {
	if part != partReadings {
		out, err := reading.DecodeRollups(v, hour)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		return out, nil
	}
	points, gaps, err := reading.Both(v, hour)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return reading.Minutes(values.Part(points, gaps)), nil
}

// hourOf names an hour of a series.
type hourOf struct {
	series string
	hour   uint32
}

// eachReadings calls f with each hour of each series in a run of a chain, and
// refused with each record of readings that takes no part.
func (s *Store) eachReadings(c crdt.ChainID, first, last uint64, f func(at crdt.HybridTime, h hourOf, x segment), refused func(seq uint64) error) error {
	for seq := first; seq <= last; seq++ {
		_, enc, err := s.recordAt(c, seq)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		rec, err := crdt.DecodeRecord(enc)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		in, bad := readingsOf(c.Stream, rec)
		if bad != nil {
			if err := refused(seq); err != nil {
				return err
			}
		}
		for _, s := range in {
			for x := range segments(s) {
				f(rec.Time, hourOf{s.Name, x.hour}, x)
			}
		}
	}
	return nil
}

// remakeReadings makes the hours anew that the records of a chain behind keep touch,
// of all other records of the stream.
func (t *Tx) remakeReadings(c crdt.ChainID, keep, last uint64) error {
	blocks := map[hourOf][]byte{}
	err := t.s.eachReadings(c, keep+1, last, func(_ crdt.HybridTime, h hourOf, _ segment) { blocks[h] = nil }, func(seq uint64) error {
		t.refused-- // wraps, and back when it is added
		return t.batch.Delete(keyRefusedReadings(c, seq), nil)
	})
	if err != nil || len(blocks) == 0 {
		return err
	}
	for author, head := range t.s.Vector(c.Stream) {
		chain, end := crdt.ChainID{Stream: c.Stream, Author: author}, head.Seq
		if chain == c {
			end = keep
		}
		err := t.s.eachReadings(chain, 1, end, func(at crdt.HybridTime, h hourOf, x segment) {
			if b, ok := blocks[h]; ok {
				blocks[h] = x.appendTo(b, at)
			}
		}, func(uint64) error { return nil })
		if err != nil {
			return err
		}
	}
	for h, block := range blocks {
		if err := t.putBlock(c.Stream.Site, h.series, h.hour, block); err != nil {
			return err
		}
	}
	return nil
}

// putBlock replaces what is kept of an hour.
func (t *Tx) putBlock(site tiers.SiteID, name string, hour uint32, block []byte) error {
	for _, part := range []byte{partReadings, partMinutes, partHours} {
		if err := t.batch.Delete(keyHour(site, name, part, hour), nil); err != nil {
			return err
		}
	}
	l, err := t.limitsAt(site, reading.Code(name))
	switch {
	case err != nil || len(block) == 0:
		return err
	case hour >= l.readings:
		return t.batch.Set(keyHour(site, name, partReadings, hour), block, nil)
	}
	rollups, err := rollupsOf(partReadings, hour, block, l.values)
	if err != nil {
		return err
	}
	return t.putRollups(site, name, hour, rollups, l)
}
