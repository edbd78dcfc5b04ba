package dispatch_test

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/tiers/dispatch"
)

// TestDueCells: an hour that is over holds what is overdue and nothing else, but for
// the present hour; a cell that is malformed is of no hour that ever was.
func TestDueCells(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		due, now := rapid.Int64Range(0, 1<<43).Draw(t, "due"), rapid.Int64Range(0, 1<<43).Draw(t, "now")
		code := rapid.SampledFrom([]string{"01001", "a/b", "类型"}).Draw(t, "type")
		hour, typeCode := dispatch.SplitDueCell(dispatch.DueCell(due, code))
		if typeCode != code || hour*dispatch.DueHourMS > due || (hour+1)*dispatch.DueHourMS <= due {
			t.Fatal(hour, typeCode)
		}
		if hour < now/dispatch.DueHourMS && due >= now {
			t.Fatalf("due %d is counted as overdue at %d", due, now)
		}
		if hour > now/dispatch.DueHourMS && due < now {
			t.Fatalf("due %d is not counted as overdue at %d", due, now)
		}
	})
	if hour, _ := dispatch.SplitDueCell("nonsense"); hour < 1<<60 {
		t.Error(hour)
	}
	for _, s := range dispatch.States() {
		if open := dispatch.OpenTask(s); open != (s != dispatch.StateClosed && s != dispatch.StateEvaluated && s != dispatch.StateMerged && s != dispatch.StateVoid) {
			t.Errorf("%s: open %v", s, open)
		}
	}
}
