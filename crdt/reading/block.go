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

// Segments calls f with the stamp, the points and the encoding of each segment of a
// block. The error wraps [ErrInvalid].
func Segments(block []byte, hour uint32, f func(stamp uint64, points []Point, enc []byte)) error {
	d := decoder{b: block}
	for len(d.b) > 0 {
		at := d.b
		stamp, points, err := d.segment(hour, nil)
		if err != nil {
			return err
		}
		f(stamp, points, at[:len(at)-len(d.b)])
	}
	return nil
}

// segment appends the points of the next segment to into.
func (d *decoder) segment(hour uint32, into []Point) (stamp uint64, out []Point, err error) {
	head := d.take(8)
	before := len(into)
	out = d.points(int64(hour)*HourMS, PointsMax, into)
	points := out[min(before, len(out)):]
	if d.bad || len(points) == 0 || checkRun(points) != nil || Hour(points[0].AtMS) != hour || Hour(points[len(points)-1].AtMS) != hour {
		return 0, nil, fmt.Errorf("%w: block of hour %d", ErrInvalid, hour)
	}
	return binary.BigEndian.Uint64(head), out, nil
}

// part is where a segment's points stand.
type part struct {
	stamp       uint64
	first, last int
}

// Points returns a block's points in the order of time: of each time the value
// that counts. The error wraps [ErrInvalid].
func Points(block []byte, hour uint32) ([]Point, error) {
	all := make([]Point, 0, len(block)/4)
	var parts []part
	inOrder := true
	for d := (decoder{b: block}); len(d.b) > 0; {
		first := len(all)
		stamp, more, err := d.segment(hour, all)
		if err != nil {
			return nil, err
		}
		inOrder = inOrder && (first == 0 || more[first-1].AtMS < more[first].AtMS)
		all = more
		parts = append(parts, part{stamp, first, len(all)})
	}
	if inOrder {
		return all, nil
	}
	// Records that came out of order seldom overlap.
	slices.SortFunc(parts, func(a, b part) int { return cmp.Compare(all[a.first].AtMS, all[b.first].AtMS) })
	overlap := false
	for i := 1; i < len(parts) && !overlap; i++ {
		overlap = all[parts[i-1].last-1].AtMS >= all[parts[i].first].AtMS
	}
	if overlap {
		return latest(all, parts), nil
	}
	out := make([]Point, 0, len(all))
	for _, x := range parts {
		out = append(out, all[x.first:x.last]...)
	}
	return out, nil
}

// latest sorts points and keeps of each time the value that counts.
func latest(all []Point, parts []part) []Point {
	type stamped struct {
		Point
		stamp uint64
	}
	mixed := make([]stamped, 0, len(all))
	for _, x := range parts {
		for _, p := range all[x.first:x.last] {
			mixed = append(mixed, stamped{p, x.stamp})
		}
	}
	slices.SortFunc(mixed, func(a, b stamped) int {
		return cmp.Or(cmp.Compare(a.AtMS, b.AtMS), cmp.Compare(a.stamp, b.stamp),
			cmp.Compare(math.Float64bits(a.Value), math.Float64bits(b.Value)))
	})
	out := all[:0]
	for i, x := range mixed {
		if i+1 == len(mixed) || mixed[i+1].AtMS != x.AtMS {
			out = append(out, x.Point)
		}
	}
	return out
}
