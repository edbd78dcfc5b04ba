package relay

import (
	"errors"
	"fmt"
	"time"
)

// ErrShape reports a line that cannot be.
var ErrShape = errors.New("relay: invalid line")

// Shape is what a line does to each of its directions.
type Shape struct {
	// Delay is that of one direction: half the round trip.
	Delay time.Duration
	// BytesPerS is the rate; zero means no bound.
	BytesPerS float64
	// QueueBytes bounds what waits for the transmitter; zero means what it sends
	// in 200 ms, but no less than eight full datagrams. Without a rate nothing
	// waits.
	QueueBytes int
}

// datagramMax is the size of a full QUIC datagram on a common line.
const datagramMax = 1500

// defaultQueue is how much of its own rate a line buffers.
const defaultQueue = 200 * time.Millisecond

func (s Shape) withDefaults() Shape {
	if s.QueueBytes == 0 {
		s.QueueBytes = max(int(s.BytesPerS*defaultQueue.Seconds()), 8*datagramMax)
	}
	return s
}

// Validate reports what cannot be. The error wraps [ErrShape].
func (s Shape) Validate() error {
	switch {
	case s.Delay < 0 || s.Delay > time.Minute:
		return fmt.Errorf("%w: delay %v: want 0 to 1 min each way", ErrShape, s.Delay)
	case s.BytesPerS < 0 || s.BytesPerS > 0 && s.BytesPerS < 100:
		return fmt.Errorf("%w: %.0f bytes/s: want at least 100, or 0 for no bound", ErrShape, s.BytesPerS)
	case s.QueueBytes < 0 || s.QueueBytes > 0 && s.QueueBytes < datagramMax:
		return fmt.Errorf("%w: a queue of %d bytes: want room for a datagram of %d", ErrShape, s.QueueBytes, datagramMax)
	}
	return nil
}

// Line is one direction. It reads no clock and holds no datagrams: it says when
// one leaves. It belongs to one goroutine.
type Line struct {
	shape Shape
	free  time.Time // when the transmitter will have sent all that it was given
}

// NewLine returns a line that nothing was sent on yet.
func NewLine(s Shape) *Line { return &Line{shape: s.withDefaults()} }

// Enter takes a datagram in at a time and returns when it comes out at the
// other end; false when the queue is full.
func (l *Line) Enter(now time.Time, size int) (time.Time, bool) {
	if l.shape.BytesPerS == 0 {
		return now.Add(l.shape.Delay), true
	}
	// Time that the transmitter was idle is not saved up: the bucket holds no
	// more than the datagram that is being sent.
	if l.free.Before(now) {
		l.free = now
	}
	waiting := l.free.Sub(now).Seconds() * l.shape.BytesPerS
	if int(waiting)+size > l.shape.QueueBytes {
		return time.Time{}, false
	}
	l.free = l.free.Add(time.Duration(float64(size) / l.shape.BytesPerS * float64(time.Second)))
	return l.free.Add(l.shape.Delay), true
}
