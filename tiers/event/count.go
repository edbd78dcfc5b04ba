package event

import (
	"strings"

	"github.com/tiermesh/tiermesh/crdt"
)

// The cubes of events (see [crdt.Count]): how many there are of each site.
const (
	// CubeState counts events by [StateCell].
	CubeState = "event"
	// CubeType counts open events by their type's code, or [TypeOther].
	CubeType = "event.type"
)

// TypeOther stands for a type that no catalog can have: one that is empty, longer
// than a code may be or malformed.
const TypeOther = "?"

// typeBytesMax is how long a type's code may be; see [Report.Validate].
const typeBytesMax = 64

// StateCell is the cell of a state and an urgency in [CubeState].
func StateCell(state string, urgent bool) string {
	if urgent {
		return state + "/urgent"
	}
	return state + "/routine"
}

// SplitStateCell reads a [StateCell] back.
func SplitStateCell(cell string) (state string, urgent bool) {
	state, class, _ := strings.Cut(cell, "/")
	return state, class == "urgent"
}

// Open reports whether an event in a state is still to be dealt with. One that is
// merged is dealt with as its original.
func Open(state string) bool {
	return state != StateClosed && state != StateVoid && state != StateMerged
}

// counts are the counters that an event counts in.
func (v *View) counts() []crdt.Count {
	if v.Report.Type == "" && v.Report.Title == "" {
		return nil // its report has not come
	}
	out := []crdt.Count{{Cube: CubeState, Cell: StateCell(v.State, v.Report.Priority <= 2)}}
	if Open(v.State) {
		out = append(out, crdt.Count{Cube: CubeType, Cell: TypeCell(v.Report.Type)})
	}
	return out
}

// TypeCell is the cell of a type in [CubeType].
func TypeCell(code string) string {
	if code == "" || len(code) > typeBytesMax || strings.ContainsRune(code, 0) {
		return TypeOther
	}
	return code
}
