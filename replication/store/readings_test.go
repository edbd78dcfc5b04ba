package store_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/reading"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
)

var readingStream = tiers.StreamID{Site: self.Site, Class: tiers.ClassReading}

// batchRecord is one record of readings.
func batchRecord(t tester, at crdt.HybridTime, in ...reading.Series) []byte {
	t.Helper()
	b, err := reading.AppendBatch(nil, in)
	if err != nil {
		t.Fatal(err)
	}
	return crdt.Record{Kind: crdt.RecordReadings, Time: at, Doc: store.ReadingDoc, Body: b}.AppendTo(nil)
}

// spanOf is a range of a chain of readings, from record first on.
func spanOf(t tester, a crdt.Author, records [][]byte, first, last int) store.Range {
	t.Helper()
	c := crdt.ChainID{Stream: readingStream, Author: a}
	head := c.Origin()
	for _, r := range records[:last] {
		head = head.Next(r)
	}
	cp, err := crdt.SignCheckpoint(crdt.Ed25519Signer(key), c, head, 1)
	if err != nil {
		t.Fatal(err)
	}
	return store.Range{Chain: c, First: uint64(first), Records: records[first-1 : last], Checkpoint: cp}
}

func commit(t tester, s *store.Store, f func(tx *store.Tx) error) {
	t.Helper()
	tx := s.Begin()
	if err := f(tx); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(s.AppliedIndex() + 1); err != nil {
		t.Fatal(err)
	}
}

func ingest(t tester, s *store.Store, r store.Range) {
	t.Helper()
	commit(t, s, func(tx *store.Tx) error { _, err := tx.Ingest(r); return err })
}

const (
	day   = 24 * reading.HourMS
	start = 20_000 * day // of a day
)

// drawRange draws which of those values count.
func drawRange(t *rapid.T) (r reading.Range) {
	low, high := -1.0, 100.0
	if rapid.Bool().Draw(t, "min") {
		r.Min = &low
	}
	if rapid.Bool().Draw(t, "max") {
		r.Max = &high
	}
	if rapid.Bool().Draw(t, "not") {
		r.Not = []float64{0.7}
	}
	return r
}

// drawBatches draws what two incarnations of a site wrote: values and gaps of few series at
// few times, so that they collide, spread over two days.
func drawBatches(t *rapid.T, authors []crdt.Author) map[crdt.Author][][]byte {
	out := map[crdt.Author][][]byte{}
	for i := range rapid.IntRange(1, 14).Draw(t, "records") {
		a := rapid.SampledFrom(authors).Draw(t, "author")
		var in []reading.Series
		gaps := rapid.IntRange(0, 3).Draw(t, "kind") == 0
		for range rapid.IntRange(1, 3).Draw(t, "series") {
			s := reading.Series{Name: rapid.SampledFrom([]string{"level", "level/a", "rain"}).Draw(t, "name")}
			for range rapid.IntRange(1, 6).Draw(t, "points") {
				at := start + int64(rapid.IntRange(0, 21).Draw(t, "at"))*5_407_003 + int64(rapid.IntRange(0, 2).Draw(t, "near"))*20_000
				if gaps {
					text := rapid.SampledFrom([]string{"", "M", "-9999"}).Draw(t, "text")
					s.Gaps = append(s.Gaps, reading.Gap{AtMS: at, Text: text, Reason: "no value"})
					continue
				}
				s.Points = append(s.Points, reading.Point{AtMS: at, Value: rapid.SampledFrom([]float64{0, 0.1, 0.7, -3, 1e17, 1.0 / 3}).Draw(t, "value")})
			}
			in = append(in, s)
		}
		// Equal hybrid times happen: two copies of a disk.
		out[a] = append(out[a], batchRecord(t, crdt.HybridTime(1+i/2)<<16, in...))
	}
	return out
}

// oracle is the naive truth: of each series and time what the latest writer said, a
// value before a gap, then the greatest.
type oracle map[string]map[int64]said

type said struct {
	at   crdt.HybridTime
	bits uint64
	gap  *reading.Gap
}

func (x said) beats(o said) bool {
	switch {
	case x.at != o.at:
		return x.at > o.at
	case x.gap == nil && o.gap == nil:
		return x.bits > o.bits
	case x.gap != nil && o.gap != nil:
		return x.gap.Text > o.gap.Text
	}
	return x.gap == nil
}

func (o oracle) take(t tester, records ...[]byte) {
	for _, enc := range records {
		rec, err := crdt.DecodeRecord(enc)
		if err != nil {
			t.Fatal(err)
		}
		in, err := reading.DecodeBatch(rec.Body)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range in {
			for _, p := range s.Points {
				o.say(s.Name, p.AtMS, said{at: rec.Time, bits: math.Float64bits(p.Value)})
			}
			for _, g := range s.Gaps {
				o.say(s.Name, g.AtMS, said{at: rec.Time, gap: &g})
			}
		}
	}
}

func (o oracle) say(series string, at int64, x said) {
	if o[series] == nil {
		o[series] = map[int64]said{}
	}
	if old, ok := o[series][at]; !ok || x.beats(old) {
		o[series][at] = x
	}
}

// points are a series' values in order, gaps its gaps.
func (o oracle) points(series string) (out []reading.Point) {
	for at, v := range o[series] {
		if v.gap == nil {
			out = append(out, reading.Point{AtMS: at, Value: math.Float64frombits(v.bits)})
		}
	}
	slices.SortFunc(out, func(a, b reading.Point) int { return int(a.AtMS - b.AtMS) })
	return out
}

func (o oracle) gaps(series string) (out []reading.Gap) {
	for _, v := range o[series] {
		if v.gap != nil {
			out = append(out, *v.gap)
		}
	}
	slices.SortFunc(out, func(a, b reading.Gap) int { return int(a.AtMS - b.AtMS) })
	return out
}

// rollups adds up naively: minutes of points, hours of minutes, days of hours.
func (o oracle) rollups(series string, values reading.Range, size int64) []reading.Rollup {
	fold := func(in []reading.Rollup, size int64) (out []reading.Rollup) {
		for _, r := range in {
			at := r.StartMS / size * size
			if n := len(out); n > 0 && out[n-1].StartMS == at {
				p := &out[n-1]
				missing := p.Missing + r.Missing
				switch {
				case p.Count == 0:
					start := p.StartMS
					*p = r
					p.StartMS = start
				case r.Count > 0:
					p.Count, p.Sum, p.Min, p.Max, p.Last, p.LastMS = p.Count+r.Count, p.Sum+r.Sum, math.Min(p.Min, r.Min), math.Max(p.Max, r.Max), r.Last, r.LastMS
				}
				p.Missing = missing
				continue
			}
			r.StartMS = at
			out = append(out, r)
		}
		return out
	}
	var at []reading.Rollup
	for _, g := range o.gaps(series) {
		at = append(at, reading.Rollup{StartMS: g.AtMS, Missing: 1})
	}
	for _, p := range o.points(series) {
		if !values.Holds(p.Value) {
			at = append(at, reading.Rollup{StartMS: p.AtMS, Missing: 1})
			continue
		}
		at = append(at, reading.Rollup{StartMS: p.AtMS, Count: 1, Sum: p.Value, Min: p.Value, Max: p.Value, Last: p.Value, LastMS: p.AtMS})
	}
	slices.SortFunc(at, func(a, b reading.Rollup) int { return int(a.StartMS - b.StartMS) })
	out := fold(at, reading.MinuteMS)
	if size > reading.MinuteMS {
		out = fold(out, reading.HourMS)
	}
	if size > reading.HourMS {
		out = fold(out, size)
	}
	return out
}

func rollups(t tester, s *store.Store, series string, values reading.Range, from, to, size int64) (out []reading.Rollup) {
	t.Helper()
	if err := s.Rollups(self.Site, series, values, from, to, size, 0, func(r reading.Rollup) bool { out = append(out, r); return true }); err != nil {
		t.Fatal(err)
	}
	return out
}

// check holds a store against the oracle.
func (o oracle) check(t tester, s *store.Store, values reading.Range) {
	t.Helper()
	names, err := s.Series(self.Site, "", "", 100)
	if err != nil || len(names) != len(o) {
		t.Fatal("series", names, err, len(o))
	}
	for _, name := range names {
		got, err := s.Readings(self.Site, name, 0, start+10*day, 1<<20)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(o.points(name)) {
			t.Fatal(name, got, "want", o.points(name), err)
		}
		o.checkPages(t, s, name)
		o.checkRollups(t, s, name, values)
	}
	if r, err := s.Scrub(context.Background()); err != nil || len(r.Findings) > 0 {
		t.Fatal(r.Findings, err)
	}
}

// checkPages reads values and gaps in pages, and finds each once, in order.
func (o oracle) checkPages(t tester, s *store.Store, name string) {
	t.Helper()
	var points []reading.Point
	var gaps []reading.Gap
	const limit = 3
	for from := int64(0); ; {
		p, g, err := s.ReadingsAndGaps(self.Site, name, from, start+10*day, limit)
		if err != nil || len(p)+len(g) > limit {
			t.Fatal(p, g, err)
		}
		points, gaps = append(points, p...), append(gaps, g...)
		if len(p)+len(g) < limit {
			break
		}
		for _, x := range p {
			from = max(from, x.AtMS+1)
		}
		for _, x := range g {
			from = max(from, x.AtMS+1)
		}
	}
	if !slices.Equal(points, o.points(name)) || !slices.Equal(gaps, o.gaps(name)) {
		t.Fatal(name, points, gaps, "want", o.points(name), o.gaps(name))
	}
}

// checkLast holds the end of a series against the oracle.
func (o oracle) checkLast(t tester, s *store.Store, name string, values reading.Range, readingsFrom int64) {
	t.Helper()
	points, gaps := values.Part(o.points(name), o.gaps(name))
	got, held, err := s.LastReading(self.Site, name, values)
	if err != nil || !held || got.Known != (len(points) > 0) || got.Known && got.Value != points[len(points)-1] {
		t.Fatal(name, got, held, err, points)
	}
	var gap *reading.Gap
	if n := len(gaps); n > 0 && gaps[n-1].AtMS >= readingsFrom && (len(points) == 0 || points[len(points)-1].AtMS < gaps[n-1].AtMS) {
		gap = &gaps[n-1]
	}
	if (gap == nil) != (got.Gap == nil) || gap != nil && *gap != *got.Gap {
		t.Fatal(name, got.Gap, "want", gap)
	}
}

func (o oracle) checkRollups(t tester, s *store.Store, name string, values reading.Range, sizes ...int64) {
	t.Helper()
	if len(sizes) == 0 {
		sizes = []int64{reading.MinuteMS, reading.HourMS, day}
	}
	for _, size := range sizes {
		if got, want := rollups(t, s, name, values, 0, start+10*day, size), o.rollups(name, values, size); !slices.Equal(got, want) {
			t.Fatal(name, "by", size, got, "want", want)
		}
	}
}

// TestReadingsAnyOrder: readings, in any order of arrival, in any portions and more
// than once, leave what the naive oracle says: the value of the latest writer, and
// rollups equal to the last bit.
func TestReadingsAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		authors := []crdt.Author{self, {Site: self.Site, Incarnation: 2}}
		chains := drawBatches(t, authors)
		want := oracle{}
		for _, records := range chains {
			want.take(t, records...)
		}
		for range 2 {
			s := open(t, vfs.NewMem())
			held := map[crdt.Author]int{}
			for len(held) < len(chains) || slices.ContainsFunc(authors, func(a crdt.Author) bool { return held[a] < len(chains[a]) }) {
				a := rapid.SampledFrom(authors).Draw(t, "whose")
				if len(chains[a]) == 0 {
					continue
				}
				first := rapid.IntRange(1, held[a]+1).Draw(t, "again from")
				last := min(len(chains[a]), first+rapid.IntRange(0, 4).Draw(t, "more"))
				if first > len(chains[a]) {
					continue
				}
				ingest(t, s, spanOf(t, a, chains[a], first, last))
				held[a] = max(held[a], last)
			}
			want.check(t, s, drawRange(t))
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestThin: readings that are dropped leave the rollups that they had, minutes that
// are dropped those of hours and days, whenever that happens; a reading that comes
// after that is counted and changes nothing.
func TestThin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		chain := drawBatches(t, []crdt.Author{self})[self]
		want, values := oracle{}, drawRange(t)
		want.take(t, chain...)
		s := open(t, vfs.NewMem())
		defer func() { _ = s.Close() }()
		ingest(t, s, spanOf(t, self, chain, 1, len(chain)))
		first := reading.Hour(start)
		readings := first + uint32(rapid.IntRange(0, 60).Draw(t, "readings"))
		minutes := first + uint32(rapid.IntRange(0, 60).Draw(t, "minutes"))
		for range rapid.IntRange(1, 2).Draw(t, "times") {
			for _, code := range []string{"level", "rain"} {
				commit(t, s, func(tx *store.Tx) error {
					_, err := tx.Thin(store.Thin{Site: self.Site, Code: code, Readings: readings, Minutes: minutes, Values: values})
					return err
				})
			}
		}
		minutes = min(minutes, readings)
		late := batchRecord(t, 1<<40, reading.Series{Name: "level", Points: []reading.Point{{AtMS: int64(first)*reading.HourMS + 1, Value: 9}}})
		all := append(slices.Clone(chain), late)
		ingest(t, s, spanOf(t, self, all, len(all), len(all)))
		kept, err := s.Kept(self.Site, "level")
		if err != nil || kept.ReadingsFromMS != int64(readings)*reading.HourMS || (kept.Late == 1) != (first < readings) {
			t.Fatal(kept, err)
		}
		if kept.Late == 0 {
			want.take(t, late)
		}
		for name := range want {
			want.checkRollups(t, s, name, values, reading.HourMS, day)
			got := rollups(t, s, name, values, int64(minutes)*reading.HourMS, start+10*day, reading.MinuteMS)
			fine := slices.DeleteFunc(want.rollups(name, values, reading.MinuteMS), func(r reading.Rollup) bool { return r.StartMS < int64(minutes)*reading.HourMS })
			if !slices.Equal(got, fine) {
				t.Fatal(name, got, "want", fine)
			}
			points, err := s.Readings(self.Site, name, 0, start+10*day, 1<<20)
			left := slices.DeleteFunc(want.points(name), func(p reading.Point) bool { return p.AtMS < int64(readings)*reading.HourMS })
			if err != nil || fmt.Sprint(points) != fmt.Sprint(left) {
				t.Fatal(name, points, "want", left, err)
			}
			want.checkLast(t, s, name, values, int64(readings)*reading.HourMS)
		}
		if r, err := s.Scrub(context.Background()); err != nil || len(r.Findings) > 0 {
			t.Fatal(r.Findings, err)
		}
	})
}

// TestReadingsSetAside: after the losing side of a fork is set aside, series are what
// they would be without it, also where they were thinned.
func TestReadingsSetAside(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		authors := []crdt.Author{self, {Site: self.Site, Incarnation: 2}}
		chains := drawBatches(t, authors)
		mine := append(slices.Clone(chains[self]), batchRecord(t, 1<<30, reading.Series{Name: "level", Points: []reading.Point{{AtMS: start + 7, Value: 5}}}),
			crdt.Record{Kind: crdt.RecordReadings, Time: 1, Doc: store.ReadingDoc, Body: []byte("no batch")}.AppendTo(nil))
		keep := rapid.IntRange(0, len(mine)-1).Draw(t, "keep")
		thin := store.Thin{
			Site: self.Site, Code: "level", Readings: reading.Hour(start) + uint32(rapid.IntRange(0, 30).Draw(t, "thin")), Values: drawRange(t),
		}
		play := func(last int) *store.Store {
			s := open(t, vfs.NewMem())
			if last > 0 {
				ingest(t, s, spanOf(t, self, mine, 1, last))
			}
			if other := chains[authors[1]]; len(other) > 0 {
				ingest(t, s, spanOf(t, authors[1], other, 1, len(other)))
			}
			commit(t, s, func(tx *store.Tx) error { _, err := tx.Thin(thin); return err })
			return s
		}
		with, without := play(len(mine)), play(keep)
		defer func() { _, _ = with.Close(), without.Close() }()
		head, err := with.HashAt(crdt.ChainID{Stream: readingStream, Author: self}, uint64(keep)+1)
		if err != nil {
			t.Fatal(err)
		}
		commit(t, with, func(tx *store.Tx) error {
			_, err := tx.SetAside(store.Evict{Chain: crdt.ChainID{Stream: readingStream, Author: self}, Keep: uint64(keep), Hash: head})
			return err
		})
		for _, name := range []string{"level", "level/a", "rain"} {
			kept, gaps, err := with.ReadingsAndGaps(self.Site, name, 0, start+10*day, 1<<20)
			should, empty, also := without.ReadingsAndGaps(self.Site, name, 0, start+10*day, 1<<20)
			if err != nil || also != nil || !slices.Equal(kept, should) || !slices.Equal(gaps, empty) {
				t.Fatal(name, kept, "want", should, err, also)
			}
			for _, size := range []int64{reading.MinuteMS, day} {
				got := rollups(t, with, name, reading.Range{}, 0, start+10*day, size)
				if want := rollups(t, without, name, reading.Range{}, 0, start+10*day, size); !slices.Equal(got, want) {
					t.Fatal(name, got, "want", want)
				}
			}
		}
		if a, b := with.Counts(), without.Counts(); a.Refused != b.Refused || a.Records != b.Records {
			t.Fatal(a, b)
		}
		if r, err := with.Scrub(context.Background()); err != nil || len(r.Findings) > 0 {
			t.Fatal(r.Findings, err)
		}
	})
}

// TestReadingsRefusals: a batch that is malformed is rejected when it is the site's
// own, and refused, kept and counted when it came from elsewhere; so is a good one
// in a stream of another class.
func TestReadingsRefusals(t *testing.T) {
	s := open(t, vfs.NewMem())
	defer func() { _ = s.Close() }()
	tx := s.Begin()
	if _, err := tx.AppendReadings(self, 1, []byte("no batch")); !errors.Is(err, store.ErrBadChange) || !tx.Empty() {
		t.Error(err)
	}
	if err := tx.Discard(); err != nil {
		t.Fatal(err)
	}
	bad := crdt.Record{Kind: crdt.RecordReadings, Time: 1, Doc: store.ReadingDoc, Body: []byte("no batch")}.AppendTo(nil)
	ingest(t, s, spanOf(t, self, [][]byte{bad}, 1, 1))
	good := batchRecord(t, 1, reading.Series{Name: "level", Points: []reading.Point{{AtMS: start, Value: 1}}})
	ingest(t, s, span(t, district, [][]byte{good}, 1, 1))
	if c := s.Counts(); c.Refused != 2 || c.Records != 2 {
		t.Errorf("%+v", c)
	}
	if names, err := s.Series(self.Site, "", "", 10); err != nil || len(names) > 0 {
		t.Error(names, err)
	}
}

// TestScrubFindsReadings: a reading that is changed, lost or made up in a series is
// found by its series.
func TestScrubFindsReadings(t *testing.T) {
	for name, damage := range map[string]func(s *store.Store) error{
		"lost": func(s *store.Store) error { return s.DropHour(self.Site, "level/a", reading.Hour(start)) },
		"made up": func(s *store.Store) error {
			return s.AddReading(self.Site, "level/a", reading.Point{AtMS: start + 9, Value: 1})
		},
	} {
		s := open(t, vfs.NewMem())
		in := reading.Series{Name: "level/a", Points: []reading.Point{{AtMS: start, Value: 1}, {AtMS: start + 5, Value: 2}}}
		ingest(t, s, spanOf(t, self, [][]byte{batchRecord(t, 1, in)}, 1, 1))
		if err := damage(s); err != nil {
			t.Fatal(err)
		}
		r, err := s.Scrub(context.Background())
		if err != nil || len(r.Findings) != 1 || r.Findings[0].What != "series level/a: its readings are not those of its records" {
			t.Errorf("%s: %v, %v", name, r.Findings, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestGoldenReadings holds the bytes of a batch and of the table of series for good.
func TestGoldenReadings(t *testing.T) {
	s := open(t, vfs.NewMem())
	defer func() { _ = s.Close() }()
	commit(t, s, func(tx *store.Tx) error {
		b, err := reading.AppendBatch(nil, []reading.Series{
			{Name: "level/a", Points: []reading.Point{{AtMS: start, Value: 1.5}, {AtMS: start + 60_000, Value: 1.5}, {AtMS: start + 120_000, Value: -2}}},
			{Name: "rain", Points: []reading.Point{{AtMS: start + day - 1, Value: 0.1}, {AtMS: start + day, Value: 0}}},
		})
		if err != nil {
			return err
		}
		_, err = tx.AppendReadings(self, 3<<16, b)
		return err
	})
	commit(t, s, func(tx *store.Tx) error {
		_, err := tx.Thin(store.Thin{Site: self.Site, Code: "level", Readings: reading.Hour(start) + 1})
		return err
	})
	commit(t, s, func(tx *store.Tx) error {
		_, err := tx.Thin(store.Thin{Site: self.Site, Code: "rain", Readings: reading.Hour(start + day), Minutes: reading.Hour(start + day)})
		return err
	})
	golden(t, "testdata/v3/readings.txt", dump(t, s))
}

// TestGoldenGaps holds the bytes of gaps, of their rollups, and of limits with a
// range, for good.
func TestGoldenGaps(t *testing.T) {
	s := open(t, vfs.NewMem())
	defer func() { _ = s.Close() }()
	commit(t, s, func(tx *store.Tx) error {
		b, err := reading.AppendBatch(nil, []reading.Series{
			{Name: "level/a", Gaps: []reading.Gap{{AtMS: start, Text: "M", Reason: "maintenance"}}},
			{Name: "rain", Gaps: []reading.Gap{{AtMS: start, Text: "-9999", Reason: "no value"}, {AtMS: start + 60_000, Text: "", Reason: "no value"}}},
		})
		if err != nil {
			return err
		}
		_, err = tx.AppendReadings(self, 3<<16, b)
		return err
	})
	low := -0.5
	commit(t, s, func(tx *store.Tx) error {
		_, err := tx.Thin(store.Thin{
			Site: self.Site, Code: "level", Readings: reading.Hour(start) + 1, Values: reading.Range{Min: &low, Not: []float64{-9999, 99}},
		})
		return err
	})
	golden(t, "testdata/v3/gaps.txt", dump(t, s))
}

// golden holds what a store keeps against a file.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("version 3 changed:\n%s\nwant:\n%s", got, want)
	}
}
