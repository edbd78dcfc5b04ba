package reading

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

// ErrInvalid reports a batch, block or value that breaks a rule.
var ErrInvalid = errors.New("reading: invalid")

// Bounds of a batch, the same at every site: what one wrote, all must take in.
const (
	// PointsMax and BytesMax bound one record's batch.
	PointsMax = 4096
	BytesMax  = 128 << 10
	// NameBytesMax bounds a series' name.
	NameBytesMax = 64
	// ValueMax bounds a value's magnitude, so that no sum overflows.
	ValueMax = 1e18
	// TimeMaxMS is the first millisecond of the year 9999: times are before it.
	TimeMaxMS = 253370764800000
)

// Point is one reading: a time in Unix milliseconds and a value.
type Point struct {
	AtMS  int64   `json:"at_ms"`
	Value float64 `json:"value"`
}

// Series is a run of readings of one series.
type Series struct {
	Name   string
	Points []Point
	// Gaps are readings without a value; a batch holds points or gaps.
	Gaps []Gap
}

// Text writes a value as briefly as it can be read back.
func Text(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

// Code returns what stands before a series' first slash: the code of its indicator.
func Code(series string) string {
	code, _, _ := strings.Cut(series, "/")
	return code
}

// ValidName checks a series' name: CODE or CODE/INSTANCE, each of letters, digits,
// '-', '_' and '.'. The error wraps [ErrInvalid].
func ValidName(name string) error {
	code, instance, has := strings.Cut(name, "/")
	if len(name) > NameBytesMax || !plain(code) || has && !plain(instance) {
		return fmt.Errorf("%w: series %.64q: want CODE or CODE/INSTANCE of letters, digits, '-', '_' and '.', at most %d bytes",
			ErrInvalid, name, NameBytesMax)
	}
	return nil
}

func plain(s string) bool {
	for i := range len(s) {
		c := s[i]
		ok := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '_' || c == '.'
		if !ok {
			return false
		}
	}
	return s != ""
}

// Valid checks a point. The error wraps [ErrInvalid].
func (p Point) Valid() error {
	if p.AtMS < 0 || p.AtMS >= TimeMaxMS {
		return fmt.Errorf("%w: at_ms %d: want 0 (1970) to %d (before 9999)", ErrInvalid, p.AtMS, int64(TimeMaxMS)-1)
	}
	// The negated form also refuses NaN.
	if !(math.Abs(p.Value) <= ValueMax) {
		return fmt.Errorf("%w: value %v: want a number of magnitude at most %g", ErrInvalid, p.Value, float64(ValueMax))
	}
	return nil
}

// AppendBatch appends the encoding of a batch, of points or of gaps, to b. It sorts
// a copy of what it is given; of several readings of a series with one time, the
// last one given counts. The error wraps [ErrInvalid].
func AppendBatch(b []byte, in []Series) ([]byte, error) {
	in = merged(in)
	points, gaps := 0, 0
	start := len(b)
	if len(in) > 0 && len(in[0].Gaps) > 0 {
		b = append(b, 0) // version 2
	}
	b = binary.AppendUvarint(b, uint64(len(in)))
	for _, s := range in {
		if err := s.valid(); err != nil {
			return nil, err
		}
		points, gaps = points+len(s.Points), gaps+len(s.Gaps)
		b = binary.AppendUvarint(b, uint64(len(s.Name)))
		b = append(b, s.Name...)
		if len(s.Gaps) > 0 {
			b = appendGaps(b, s.Gaps, 0)
		} else {
			b = appendPoints(b, s.Points, 0)
		}
	}
	if points > 0 && gaps > 0 {
		return nil, fmt.Errorf("%w: a batch of %d points and %d gaps: want one of them", ErrInvalid, points, gaps)
	}
	if total := points + gaps; total == 0 || total > PointsMax || len(b)-start > BytesMax {
		return nil, fmt.Errorf("%w: a batch of %d readings, %d bytes: want 1 to %d, at most %d bytes",
			ErrInvalid, total, len(b)-start, PointsMax, BytesMax)
	}
	return b, nil
}

func (s Series) valid() error {
	if err := ValidName(s.Name); err != nil {
		return err
	}
	for _, p := range s.Points {
		if err := p.Valid(); err != nil {
			return fmt.Errorf("series %s: %w", s.Name, err)
		}
	}
	if err := checkGaps(s.Gaps); err != nil {
		return fmt.Errorf("series %s: %w", s.Name, err)
	}
	return nil
}

// merged joins series of one name, and sorts series and points.
func merged(in []Series) []Series {
	at := make(map[string]int, len(in))
	var out []Series
	for _, s := range in {
		if len(s.Points)+len(s.Gaps) == 0 {
			continue
		}
		i, ok := at[s.Name]
		if !ok {
			i = len(out)
			at[s.Name] = i
			out = append(out, Series{Name: s.Name})
		}
		out[i].Points = append(out[i].Points, s.Points...)
		out[i].Gaps = append(out[i].Gaps, s.Gaps...)
	}
	slices.SortFunc(out, func(a, b Series) int { return strings.Compare(a.Name, b.Name) })
	for i := range out {
		out[i].Points = sorted(out[i].Points, pointAt)
		out[i].Gaps = sorted(out[i].Gaps, gapAt)
	}
	return out
}

func pointAt(p Point) int64 { return p.AtMS }

func sorted[T any](in []T, at func(T) int64) []T {
	byTime := func(a, b T) int { return cmp.Compare(at(a), at(b)) }
	if !slices.IsSortedFunc(in, byTime) {
		slices.SortStableFunc(in, byTime)
	}
	kept := in[:0]
	for i, x := range in {
		if i+1 < len(in) && at(in[i+1]) == at(x) {
			continue
		}
		kept = append(kept, x)
	}
	return kept
}

// appendPoints appends points with times since base.
func appendPoints(b []byte, points []Point, base int64) []byte {
	b = appendTimes(b, points, pointAt, base)
	last := uint64(0)
	for _, p := range points {
		v := math.Float64bits(p.Value)
		b = binary.AppendUvarint(b, bits.ReverseBytes64(v^last))
		last = v
	}
	return b
}

// DecodeBatch reads a batch; it accepts nothing that [AppendBatch] does not write.
// The error wraps [ErrInvalid].
func DecodeBatch(b []byte) ([]Series, error) {
	if len(b) > BytesMax {
		return nil, fmt.Errorf("%w: a batch of %d bytes: want at most %d", ErrInvalid, len(b), BytesMax)
	}
	d := decoder{b: b}
	gaps := len(b) > 0 && b[0] == 0 // version 2
	if gaps {
		d.b = b[1:]
	}
	n := d.count(5) // name length, name, count, time, value; a gap takes more
	out := make([]Series, 0, n)
	left := PointsMax
	for range n {
		s := Series{Name: string(d.take(d.uvarint()))}
		if gaps {
			s.Gaps = d.gaps(0, left)
		} else {
			s.Points = d.points(0, left, nil)
		}
		left -= len(s.Points) + len(s.Gaps)
		if d.bad || len(s.Points)+len(s.Gaps) == 0 {
			return nil, fmt.Errorf("%w: batch is cut off, or too large", ErrInvalid)
		}
		if err := ValidName(s.Name); err != nil {
			return nil, err
		}
		if len(out) > 0 && out[len(out)-1].Name >= s.Name {
			return nil, fmt.Errorf("%w: batch: series out of order", ErrInvalid)
		}
		if err := errors.Join(checkRun(s.Points), checkGaps(s.Gaps)); err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	if d.bad || len(d.b) > 0 || n == 0 {
		return nil, fmt.Errorf("%w: batch: length", ErrInvalid)
	}
	return out, nil
}

// checkRun checks that times rise and values are in bounds.
func checkRun(points []Point) error {
	for i, p := range points {
		// The negated form also finds NaN.
		if p.AtMS < 0 || p.AtMS >= TimeMaxMS || !(math.Abs(p.Value) <= ValueMax) {
			return p.Valid()
		}
		if i > 0 && p.AtMS <= points[i-1].AtMS {
			return fmt.Errorf("%w: batch: times out of order", ErrInvalid)
		}
	}
	return nil
}

// decoder reads integers; after the first shortage bad stays set.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) uvarint() uint64 {
	if len(d.b) > 0 && d.b[0] < 0x80 { // as most are
		v := d.b[0]
		d.b = d.b[1:]
		return uint64(v)
	}
	v, n := binary.Uvarint(d.b)
	if n <= 0 || n > 1 && d.b[n-1] == 0 { // one encoding for each number
		d.bad = true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) varint() int64 {
	u := d.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

func (d *decoder) take(n uint64) []byte {
	if d.bad || n > uint64(len(d.b)) {
		d.bad = true
		return nil
	}
	out := d.b[:n:n]
	d.b = d.b[n:]
	return out
}

// count reads how many things follow, each of at least size bytes.
func (d *decoder) count(size int) int {
	n := d.uvarint()
	if n > uint64(len(d.b)/size) {
		d.bad = true
		return 0
	}
	return int(n)
}

// points appends the points that follow, at most so many, to into.
func (d *decoder) points(base int64, most int, into []Point) []Point {
	n := d.count(2)
	if n > most {
		d.bad = true
	}
	if d.bad || n == 0 {
		return into
	}
	before := len(into)
	into = slices.Grow(into, n)[:before+n]
	out := into[before:]
	at, step := base+int64(d.uvarint()), int64(0)
	out[0].AtMS = at
	for i := 1; i < n; i++ {
		step += d.varint()
		at += step
		out[i].AtMS = at
	}
	last := uint64(0)
	for i := range out {
		last ^= bits.ReverseBytes64(d.uvarint())
		out[i].Value = math.Float64frombits(last)
	}
	return into
}
