package dispatch

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/tiermesh/tiermesh/crdt"
)

// The cubes of tasks (see [crdt.Count]): how many there are of each site.
const (
	// CubeTask counts tasks by state.
	CubeTask = "task"
	// CubeTaskType counts open tasks by the type of their event.
	CubeTaskType = "task.type"
	// CubeTaskDue counts the open tasks whose clock runs by [DueCell].
	CubeTaskDue = "task.due"
)

// DueHourMS is how long a cell of [CubeTaskDue] is, in milliseconds. What is overdue
// is the sum of the hours that are over, and the start of the present one under
// [IndexTaskDue].
const DueHourMS = 3_600_000

// DueCell is the cell of a due time, in Unix milliseconds, and an event's type.
func DueCell(dueMS int64, typeCode string) string {
	return fmt.Sprintf("%08x/%s", max(dueMS, 0)/DueHourMS, countedType(typeCode))
}

// SplitDueCell reads a [DueCell] back: the hour since 1970 and the type. A malformed
// one is of no hour that ever was.
func SplitDueCell(cell string) (hour int64, typeCode string) {
	text, typeCode, _ := strings.Cut(cell, "/")
	hour, err := strconv.ParseInt(text, 16, 64)
	if err != nil {
		return 1 << 62, typeCode
	}
	return hour, typeCode
}

// countedType is a type as counters show it; a code that no catalog can have is "?".
func countedType(code string) string {
	if code == "" || len(code) > typeBytesMax || strings.ContainsRune(code, 0) {
		return "?"
	}
	return code
}

// typeBytesMax is how long an event type's code may be.
const typeBytesMax = 64

// OpenTask reports whether a task in a state is still to be done.
func OpenTask(state string) bool {
	l := Life{State: state}
	return l.Outcome() == OutcomeOpen
}

// counts are the counters that a task counts in.
func (v *TaskView) counts() []crdt.Count {
	if v.Brief.DispatchedAtMS == 0 && v.Brief.Title == "" {
		return nil // its brief has not come
	}
	out := []crdt.Count{{Cube: CubeTask, Cell: v.State}}
	if v.Outcome() != OutcomeOpen {
		return out
	}
	out = append(out, crdt.Count{Cube: CubeTaskType, Cell: countedType(v.Brief.Type)})
	if v.DueMS > 0 {
		out = append(out, crdt.Count{Cube: CubeTaskDue, Cell: DueCell(v.DueMS, v.Brief.Type)})
	}
	return out
}
