package reading

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// HourMS is how much time a block covers, in milliseconds.
const HourMS = 3_600_000

// Hour returns the number of the hour since the Unix epoch that a time is in.
func Hour(ms int64) uint32 { return uint32(ms / HourMS) }

// AppendSegment appends what one record says of one hour to a block. The points
// are within the hour, in ascending order of time.
func AppendSegment(b []byte, hour uint32, stamp uint64, points []Point) []byte {
	b = binary.BigEndian.AppendUint64(b, stamp)
	return appendPoints(b, points, int64(hour)*HourMS)
}

// Segments calls f with the encoding of each segment of a block. The error wraps
// [ErrInvalid].
func Segments(block []byte, hour uint32, f func(enc []byte)) error {
	d := decoder{b: block}
	for len(d.b) > 0 {
		at := d.b
		if _, _, _, err := d.segment(hour, nil); err != nil {
			return err
		}
		f(at[:len(at)-len(d.b)])
	}
	return nil
}

// segment appends the points of the next segment to into, or returns its gaps.
func (d *decoder) segment(hour uint32, into []Point) (stamp uint64, out []Point, gaps []Gap, err error) {
	head := d.take(8)
	base := int64(hour) * HourMS
	if !d.bad && len(d.b) > 0 && d.b[0] == 0 {
		d.b = d.b[1:]
		gaps = d.gaps(base, PointsMax)
		if d.bad || len(gaps) == 0 || checkGaps(gaps) != nil || Hour(gaps[0].AtMS) != hour || Hour(gaps[len(gaps)-1].AtMS) != hour {
			return 0, nil, nil, fmt.Errorf("%w: block of hour %d", ErrInvalid, hour)
		}
		return binary.BigEndian.Uint64(head), into, gaps, nil
	}
	before := len(into)
	out = d.points(base, PointsMax, into)
	points := out[min(before, len(out)):]
	if d.bad || len(points) == 0 || checkRun(points) != nil || Hour(points[0].AtMS) != hour || Hour(points[len(points)-1].AtMS) != hour {
		return 0, nil, nil, fmt.Errorf("%w: block of hour %d", ErrInvalid, hour)
	}
	return binary.BigEndian.Uint64(head), out, nil, nil
}

// part is where a segment's points stand.
type part struct {
	stamp       uint64
	first, last int
}

// stampedGap is a gap and when it was written.
type stampedGap struct {
	Gap
	stamp uint64
}

// Points returns a block's points in the order of time: of each time the value
// that counts. The error wraps [ErrInvalid].
func Points(block []byte, hour uint32) ([]Point, error) {
	points, _, err := Both(block, hour)
	return points, err
}

// Both returns a block's points and its gaps, each in the order of time: of each
// time what counts. The error wraps [ErrInvalid].
func Both(block []byte, hour uint32) ([]Point, []Gap, error) {
	all := make([]Point, 0, len(block)/4)
	var parts []part
	var gaps []stampedGap
	inOrder := true
	for d := (decoder{b: block}); len(d.b) > 0; {
		first := len(all)
		stamp, more, none, err := d.segment(hour, all)
		if err != nil {
			return nil, nil, err
		}
		for _, g := range none {
			gaps = append(gaps, stampedGap{g, stamp})
		}
		if len(more) == first {
			continue
		}
		inOrder = inOrder && (first == 0 || more[first-1].AtMS < more[first].AtMS)
		all = more
		parts = append(parts, part{stamp, first, len(all)})
	}
	if len(gaps) > 0 {
		points, left := latest(all, parts, gaps)
		return points, left, nil
	}
	if inOrder {
		return all, nil, nil
	}
	// Records that came out of order seldom overlap.
	slices.SortFunc(parts, func(a, b part) int { return cmp.Compare(all[a.first].AtMS, all[b.first].AtMS) })
	overlap := false
	for i := 1; i < len(parts) && !overlap; i++ {
		overlap = all[parts[i-1].last-1].AtMS >= all[parts[i].first].AtMS
	}
	if overlap {
		points, _ := latest(all, parts, nil)
		return points, nil, nil
	}
	out := make([]Point, 0, len(all))
	for _, x := range parts {
		out = append(out, all[x.first:x.last]...)
	}
	return out, nil, nil
}

// latest sorts readings and keeps of each time the one that counts.
func latest(all []Point, parts []part, gaps []stampedGap) ([]Point, []Gap) {
	type stamped struct {
		Point
		stamp uint64
		gap   *Gap
	}
	mixed := make([]stamped, 0, len(all)+len(gaps))
	for _, x := range parts {
		for _, p := range all[x.first:x.last] {
			mixed = append(mixed, stamped{Point: p, stamp: x.stamp})
		}
	}
	for i := range gaps {
		mixed = append(mixed, stamped{Point{AtMS: gaps[i].AtMS}, gaps[i].stamp, &gaps[i].Gap})
	}
	slices.SortFunc(mixed, func(a, b stamped) int {
		if c := cmp.Or(cmp.Compare(a.AtMS, b.AtMS), cmp.Compare(a.stamp, b.stamp)); c != 0 {
			return c
		}
		switch {
		case a.gap != nil && b.gap != nil:
			return compareGaps(*a.gap, *b.gap)
		case a.gap != nil:
			return -1
		case b.gap != nil:
			return 1
		}
		return cmp.Compare(math.Float64bits(a.Value), math.Float64bits(b.Value))
	})
	out := all[:0]
	var left []Gap
	for i, x := range mixed {
		switch {
		case i+1 < len(mixed) && mixed[i+1].AtMS == x.AtMS:
		case x.gap != nil:
			left = append(left, *x.gap)
		default:
			out = append(out, x.Point)
		}
	}
	return out, left
}
