package tiers

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
)

// Class fixes a record's priority (its [Lane]), who may write it and which
// way it flows. The numbers are part of the version-1 formats.
type Class uint8

// The classes, by their version-1 numbers. Zero is not a class.
const (
	// ClassCommand holds tasks, orders and their receipts, and unit requests.
	ClassCommand Class = 1
	// ClassUrgent holds events of priority 1 and 2, and alerts.
	ClassUrgent Class = 2
	// ClassControl holds topology, policy, revocations and mode switches.
	ClassControl Class = 3
	// ClassCatalog holds boards, tracks, catalogs, rules and definitions.
	ClassCatalog Class = 4
	// ClassRoutine holds all other events.
	ClassRoutine Class = 5
	// ClassReading holds observations, indicator values and unit positions.
	ClassReading Class = 6
	// ClassBulk holds attachments.
	ClassBulk Class = 7
)

// classNames is indexed by Class.
var classNames = [...]string{"", "command", "urgent", "control", "catalog", "routine", "reading", "bulk"}

// classLanes is indexed by Class; lower lanes are sent first.
var classLanes = [...]Lane{0, 0, 1, 1, 2, 3, 4, 5}

// Lane is a sending priority; 0 is the most urgent.
type Lane uint8

// LaneCount is the number of lanes, numbered 0 to LaneCount-1.
const LaneCount = 6

// Classes lists every class in the order of its number.
func Classes() []Class {
	return []Class{ClassCommand, ClassUrgent, ClassControl, ClassCatalog, ClassRoutine, ClassReading, ClassBulk}
}

// Valid reports whether the class is one of the seven.
func (c Class) Valid() bool { return c >= ClassCommand && c <= ClassBulk }

// Lane returns the class's sending priority; an invalid class goes last.
func (c Class) Lane() Lane {
	if !c.Valid() {
		return LaneCount - 1
	}
	return classLanes[c]
}

// String returns the class's name, or class(N) for an invalid one.
func (c Class) String() string {
	if !c.Valid() {
		return fmt.Sprintf("class(%d)", uint8(c))
	}
	return classNames[c]
}

// ParseClass is the inverse of [Class.String]. The error wraps [ErrInvalidID].
func ParseClass(s string) (Class, error) {
	for i, name := range classNames {
		if i > 0 && name == s {
			return Class(i), nil
		}
	}
	return 0, fmt.Errorf("%w: class %q: want one of %v", ErrInvalidID, s, classNames[1:])
}

// flowsDown reports whether a stream of this class is also stored below its site.
func (c Class) flowsDown() bool { return c == ClassControl || c == ClassCatalog }

// ancestorsWrite reports whether a site's ancestors may write to its stream of
// this class (for catalog see node/adr/0002).
func (c Class) ancestorsWrite() bool {
	switch c {
	case ClassCommand, ClassUrgent, ClassCatalog, ClassRoutine:
		return true
	default:
		return false
	}
}

// StreamID is a site and a class: the unit whose audience is computed.
type StreamID struct {
	Site  SiteID
	Class Class
}

// String returns site/class, as in 500101/routine.
func (s StreamID) String() string { return string(s.Site) + "/" + s.Class.String() }

// ParseStream is the inverse of [StreamID.String]. The error wraps [ErrInvalidID].
func ParseStream(text string) (StreamID, error) {
	site, class, _ := strings.Cut(text, "/")
	c, err := ParseClass(class)
	s := StreamID{SiteID(site), c}
	return s, errors.Join(err, s.Site.Validate())
}

// Validate checks both halves. The error wraps [ErrInvalidID].
func (s StreamID) Validate() error {
	if !s.Class.Valid() {
		return fmt.Errorf("%w: stream of %q: %s", ErrInvalidID, string(s.Site), s.Class)
	}
	return s.Site.Validate()
}

// Compare orders streams by lane, then site, then class: the order of sending.
func (s StreamID) Compare(o StreamID) int {
	return cmp.Or(cmp.Compare(s.Class.Lane(), o.Class.Lane()), cmp.Compare(s.Site, o.Site), cmp.Compare(s.Class, o.Class))
}
