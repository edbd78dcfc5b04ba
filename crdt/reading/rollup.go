package reading

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Rollup sums up the readings of a stretch of time.
type Rollup struct {
	// StartMS is where the stretch begins, in Unix milliseconds.
	StartMS int64 `json:"start_ms"`
	// Count is of values. Where it is 0 nothing is known but Missing.
	Count uint64  `json:"count"`
	Sum   float64 `json:"sum"`
	Min   float64 `json:"min"`
	Max   float64 `json:"max"`
	Last  float64 `json:"last"`
	// LastMS is the time of the last reading.
	LastMS int64 `json:"last_ms"`
	// Missing counts the readings without a value; they are in nothing else.
	Missing uint64 `json:"missing,omitempty"`
}

// Add takes a later reading in.
func (r *Rollup) Add(p Point) {
	if r.Count == 0 {
		r.Min, r.Max = p.Value, p.Value
	}
	r.Count++
	r.Sum += p.Value
	r.Min, r.Max = min(r.Min, p.Value), max(r.Max, p.Value)
	r.Last, r.LastMS = p.Value, p.AtMS
}

// Merge takes the rollup of a later stretch in; StartMS stays.
func (r *Rollup) Merge(o Rollup) {
	missing := r.Missing + o.Missing
	switch {
	case o.Count == 0:
		r.Missing = missing
		return
	case r.Count == 0:
		start := r.StartMS
		*r = o
		r.StartMS, r.Missing = start, missing
		return
	}
	r.Missing = missing
	r.Count += o.Count
	r.Sum += o.Sum
	r.Min, r.Max = min(r.Min, o.Min), max(r.Max, o.Max)
	r.Last, r.LastMS = o.Last, o.LastMS
}

// Mean returns the mean, 0 of nothing.
func (r Rollup) Mean() float64 {
	if r.Count == 0 {
		return 0
	}
	return r.Sum / float64(r.Count)
}

// MinuteMS is a minute in milliseconds.
const MinuteMS = 60_000

// Minutes rolls points up by the minute, and counts gaps; both are in the order of
// time.
func Minutes(points []Point, gaps []Gap) []Rollup {
	var out []Rollup
	at, end := (*Rollup)(nil), int64(0)
	minute := func(ms int64) *Rollup {
		if at == nil || ms >= end {
			start := ms - ms%MinuteMS
			if out == nil {
				out = make([]Rollup, 0, 60)
			}
			out = append(out, Rollup{StartMS: start})
			at, end = &out[len(out)-1], start+MinuteMS
		}
		return at
	}
	for _, p := range points {
		for len(gaps) > 0 && gaps[0].AtMS < p.AtMS {
			minute(gaps[0].AtMS).Missing++
			gaps = gaps[1:]
		}
		minute(p.AtMS).Add(p)
	}
	for _, g := range gaps {
		minute(g.AtMS).Missing++
	}
	return out
}

// Coarser merges rollups, in the order of time, into stretches of size
// milliseconds that begin at offset, modulo size.
func Coarser(in []Rollup, size, offset int64) []Rollup {
	var out []Rollup
	for _, r := range in {
		start := r.StartMS - ((r.StartMS-offset)%size+size)%size
		if n := len(out); n == 0 || out[n-1].StartMS != start {
			out = append(out, Rollup{StartMS: start})
		}
		out[len(out)-1].Merge(r)
	}
	return out
}

// AppendRollups appends the encoding of rollups that begin in an hour.
func AppendRollups(b []byte, hour uint32, in []Rollup) []byte {
	b = binary.AppendUvarint(b, uint64(len(in)))
	missing := false
	for _, r := range in {
		b = binary.AppendUvarint(b, uint64(r.StartMS-int64(hour)*HourMS))
		b = binary.AppendUvarint(b, r.Count)
		last := uint64(0)
		if r.Count > 0 {
			last = uint64(r.LastMS - r.StartMS)
		}
		b = binary.AppendUvarint(b, last)
		for _, v := range []float64{r.Sum, r.Min, r.Max, r.Last} {
			b = binary.BigEndian.AppendUint64(b, math.Float64bits(v))
		}
		missing = missing || r.Missing > 0
	}
	for i := 0; missing && i < len(in); i++ {
		b = binary.AppendUvarint(b, in[i].Missing)
	}
	return b
}

// DecodeRollups reads the rollups of an hour. The error wraps [ErrInvalid].
func DecodeRollups(b []byte, hour uint32) ([]Rollup, error) {
	d := decoder{b: b}
	out := make([]Rollup, d.count(35))
	for i := range out {
		r := &out[i]
		r.StartMS = int64(hour)*HourMS + int64(d.uvarint())
		r.Count = d.uvarint()
		if last := int64(d.uvarint()); r.Count > 0 {
			r.LastMS = r.StartMS + last
		}
		for _, v := range []*float64{&r.Sum, &r.Min, &r.Max, &r.Last} {
			if enc := d.take(8); enc != nil {
				*v = math.Float64frombits(binary.BigEndian.Uint64(enc))
			}
		}
	}
	for i := 0; len(d.b) > 0 && i < len(out); i++ {
		out[i].Missing = d.uvarint()
	}
	if d.bad || len(d.b) > 0 {
		return nil, fmt.Errorf("%w: rollups of hour %d", ErrInvalid, hour)
	}
	return out, nil
}
