package relay

import "time"

// HandshakeBytes is the counter's parser.
var HandshakeBytes = handshakeBytes

// Line is one direction, for virtual time.
type Line struct{ line }

// NewLine returns a direction of a shape.
func NewLine(s Shape) *Line { return &Line{line{shape: s.withDefaults()}} }

// Enter takes a datagram in.
func (l *Line) Enter(now time.Time, size int) (time.Time, bool) { return l.enter(now, size) }
