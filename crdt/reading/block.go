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
		head := d.take(8)
		points := d.points(int64(hour)*HourMS, PointsMax)
		if d.bad || len(points) == 0 || checkRun(points) != nil || Hour(points[0].AtMS) != hour || Hour(points[len(points)-1].AtMS) != hour {
			return fmt.Errorf("%w: block of hour %d", ErrInvalid, hour)
		}
		f(binary.BigEndian.Uint64(head), points, at[:len(at)-len(d.b)])
	}
	return nil
}

// stamped is a point of a segment.
type stamped struct {
	Point
	stamp uint64
}

// Points returns a block's points in the order of time: of each time the value
// that counts. The error wraps [ErrInvalid].
func Points(block []byte, hour uint32) ([]Point, error) {
	var all []Point
	var stamps []uint64
	inOrder := true
	err := Segments(block, hour, func(stamp uint64, points []Point, _ []byte) {
		if len(all) > 0 && all[len(all)-1].AtMS >= points[0].AtMS {
			inOrder = false
		}
		all = append(all, points...)
		for range points {
			stamps = append(stamps, stamp)
		}
	})
	if err != nil || inOrder {
		return all, err
	}
	mixed := make([]stamped, len(all))
	for i := range all {
		mixed[i] = stamped{all[i], stamps[i]}
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
	return out, nil
}
