package oracle_test

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/testbed/oracle"
)

const ms = time.Millisecond

// claimed and the like make operations of a client, each 2 ms long.
func claimed(at int, holder string, epoch uint64, out oracle.OutcomeKind) oracle.Op {
	return oracle.Op{Kind: oracle.OpClaim, Object: "engine-7", Holder: holder, Epoch: epoch, Outcome: out, Call: time.Duration(at) * ms, Return: time.Duration(at+2) * ms}
}

func released(at int, epoch uint64, out oracle.OutcomeKind) oracle.Op {
	op := claimed(at, "", epoch, out)
	op.Kind = oracle.OpRelease
	return op
}

func held(at int, holder string, epoch uint64) oracle.Op {
	op := claimed(at, holder, epoch, oracle.Done)
	op.Kind = oracle.OpHolder
	return op
}

func on(kind oracle.OpKind, at int, old, value string, out oracle.OutcomeKind) oracle.Op {
	return oracle.Op{Kind: kind, Object: "event:x", Old: old, Value: value, Outcome: out, Call: time.Duration(at) * ms, Return: time.Duration(at+2) * ms}
}

// first is the first epoch of a site.
const first = 1<<32 + 1

// TestLinearizable plants what no order explains, and shows what one does.
func TestLinearizable(t *testing.T) {
	forced := claimed(3, "b", first+1, oracle.Done)
	forced.Force = true
	for name, row := range map[string]struct {
		history []oracle.Op
		ok      bool
	}{
		"one after the other": {[]oracle.Op{claimed(0, "a", first, oracle.Done), released(3, first, oracle.Done), claimed(6, "b", first+1, oracle.Done), held(9, "b", first+1)}, true},
		"at once":             {[]oracle.Op{claimed(0, "a", first, oracle.Done), claimed(1, "b", 0, oracle.Rejected)}, true},
		"rejected, and free":  {[]oracle.Op{claimed(0, "a", 0, oracle.Rejected)}, false},
		"two hold it":         {[]oracle.Op{claimed(0, "a", first, oracle.Done), claimed(3, "b", first+1, oracle.Done)}, false},
		"by force":            {[]oracle.Op{claimed(0, "a", first, oracle.Done), forced}, true},
		"one epoch for two":   {[]oracle.Op{claimed(0, "a", first, oracle.Done), released(3, first, oracle.Done), claimed(6, "b", first, oracle.Done)}, false},
		"an epoch is left out": {[]oracle.Op{
			claimed(0, "a", first, oracle.Done), released(3, first, oracle.Done), claimed(6, "b", first+2, oracle.Done),
		}, false},
		"a new incarnation":        {[]oracle.Op{claimed(0, "a", first, oracle.Done), released(3, first, oracle.Done), claimed(6, "b", 2<<32+1, oracle.Done)}, true},
		"a fenced release is done": {[]oracle.Op{claimed(0, "a", first, oracle.Done), released(3, first+1, oracle.Done)}, false},
		"a stale holder is read":   {[]oracle.Op{claimed(0, "a", first, oracle.Done), released(3, first, oracle.Done), held(6, "a", first)}, false},
		"an unknown claim had no effect": {[]oracle.Op{
			claimed(0, "a", 0, oracle.Unknown), claimed(3, "b", first, oracle.Done), held(6, "b", first),
		}, true},
		"an unknown claim took effect late": {[]oracle.Op{
			claimed(0, "a", 0, oracle.Unknown), held(3, "", 0), held(6, "a", first), claimed(9, "b", 0, oracle.Rejected), released(12, first, oracle.Done),
		}, true},
		"an unknown claim explains no other": {[]oracle.Op{claimed(0, "a", 0, oracle.Unknown), held(3, "c", first)}, false},
		"an unknown release":                 {[]oracle.Op{claimed(0, "a", first, oracle.Done), released(3, first, oracle.Unknown), claimed(6, "b", first+1, oracle.Done)}, true},
		"an unknown release of another epoch": {[]oracle.Op{
			claimed(0, "a", first, oracle.Done), released(3, first+5, oracle.Unknown), claimed(6, "b", first+1, oracle.Done),
		}, false},

		"swaps":        {[]oracle.Op{on(oracle.OpSwap, 0, "", "1", oracle.Done), on(oracle.OpSwap, 1, "", "2", oracle.Rejected), on(oracle.OpRead, 4, "", "1", oracle.Done)}, true},
		"a lost swap":  {[]oracle.Op{on(oracle.OpSwap, 0, "", "1", oracle.Done), on(oracle.OpRead, 3, "", "", oracle.Done)}, false},
		"both swapped": {[]oracle.Op{on(oracle.OpSwap, 0, "", "1", oracle.Done), on(oracle.OpSwap, 1, "", "2", oracle.Done)}, false},
		"an unknown swap that a rejection shows": {[]oracle.Op{
			on(oracle.OpSwap, 0, "", "1", oracle.Unknown), on(oracle.OpSwap, 3, "", "2", oracle.Rejected),
		}, true},
		"an unknown swap undone": {[]oracle.Op{
			on(oracle.OpSwap, 0, "", "1", oracle.Unknown), on(oracle.OpRead, 3, "", "1", oracle.Done), on(oracle.OpRead, 6, "", "", oracle.Done),
		}, false},
		"writes":       {[]oracle.Op{on(oracle.OpWrite, 0, "", "1", oracle.Done), on(oracle.OpWrite, 1, "", "2", oracle.Done), on(oracle.OpRead, 4, "", "1", oracle.Done)}, true},
		"a stale read": {[]oracle.Op{on(oracle.OpWrite, 0, "", "1", oracle.Done), on(oracle.OpWrite, 3, "", "2", oracle.Done), on(oracle.OpRead, 6, "", "1", oracle.Done)}, false},
		"appends": {[]oracle.Op{
			on(oracle.OpAppend, 0, "", "b", oracle.Done), on(oracle.OpAppend, 1, "", "a", oracle.Done), on(oracle.OpAppend, 2, "", "c", oracle.Unknown),
			on(oracle.OpRead, 5, "", oracle.Set("a", "b"), oracle.Done), on(oracle.OpRead, 8, "", oracle.Set("c", "b", "a"), oracle.Done),
		}, true},
		"an append is gone": {[]oracle.Op{
			on(oracle.OpAppend, 0, "", "a", oracle.Done), on(oracle.OpAppend, 3, "", "b", oracle.Done), on(oracle.OpRead, 6, "", oracle.Set("b"), oracle.Done),
		}, false},
	} {
		v := oracle.Linearizable(row.history)
		if v.Holds() != row.ok || v.Checked != uint64(len(row.history)) {
			t.Errorf("%s: %+v", name, v)
		}
		slices.Reverse(row.history)
		if again := oracle.Linearizable(row.history); again.Holds() != row.ok {
			t.Errorf("%s, told in another order: %+v", name, again)
		}
	}
}

// TestLinearizableByObject: what happens to one object says nothing of another, and
// each that fits no order counts.
func TestLinearizableByObject(t *testing.T) {
	var history []oracle.Op
	for i := range 9 {
		op := on(oracle.OpWrite, 0, "", "1", oracle.Done)
		op.Object = fmt.Sprintf("event:%d", i)
		history = append(history, op)
		op = on(oracle.OpRead, 3, "", "1", oracle.Done)
		op.Object = fmt.Sprintf("event:%d", i)
		if i%3 == 0 {
			op.Value = "2"
		}
		history = append(history, op, claimed(0, "a", first, oracle.Done))
	}
	v := oracle.Linearizable(history)
	if v.Violations != 3 || v.Checked != 27 {
		t.Errorf("%+v", v)
	}
}

// TestUrgent plants an urgent record that waits behind the backlog.
func TestUrgent(t *testing.T) {
	const heal = 10 * time.Second
	routine := func(i int) oracle.Passage {
		return oracle.Passage{From: town, To: north, Doc: "event:r", Acked: time.Duration(i) * ms, Open: heal, Visible: heal + time.Duration(i+1)*10*ms}
	}
	urgent := oracle.Passage{From: town, To: north, Doc: "event:u", Urgent: true, Acked: 5 * time.Second, Open: heal}
	backlog := []oracle.Passage{}
	for i := range 100 {
		backlog = append(backlog, routine(i))
	}
	at := func(visible time.Duration) oracle.Verdict {
		u := urgent
		u.Visible = visible
		return oracle.Urgent(append(slices.Clone(backlog), u), 8)
	}
	holds(t, "first of all", at(heal+5*ms))
	holds(t, "behind eight", at(heal+85*ms))
	holds(t, "with the ninth", at(heal+90*ms))
	caught(t, "behind nine", 1, at(heal+91*ms))
	caught(t, "behind all", 1, at(heal+time.Hour))
	caught(t, "never", 1, at(-1))
	// Reported while the backlog drains: only what comes from then on counts.
	late := urgent
	late.Acked, late.Visible = heal+800*ms, heal+840*ms
	holds(t, "late", oracle.Urgent(append(slices.Clone(backlog), late), 8))
	late.Visible = heal + 990*ms
	caught(t, "late, and behind the rest", 1, oracle.Urgent(append(slices.Clone(backlog), late), 8))
	elsewhere := urgent
	elsewhere.From, elsewhere.Visible = other, heal+time.Hour
	holds(t, "another link's backlog", oracle.Urgent(append(slices.Clone(backlog), elsewhere), 8))
}

// TestGrown: what a stream's length says is as good as looking for each record.
func TestGrown(t *testing.T) {
	const heal = 10 * time.Second
	var seen []oracle.Length
	for i := range 101 { // 7 records each 10 ms
		seen = append(seen, oracle.Length{At: heal + time.Duration(i)*10*ms, Records: uint64(7*i) + 3})
	}
	backlog := oracle.Grown(town, north, seen)
	if len(backlog) != 700 {
		t.Fatalf("%d passages", len(backlog))
	}
	at := func(visible time.Duration) oracle.Verdict {
		return oracle.Urgent(append(slices.Clone(backlog), oracle.Passage{From: town, To: north, Doc: "event:u", Urgent: true, Open: heal, Visible: visible}), 20)
	}
	holds(t, "behind fourteen", at(heal+30*ms))
	caught(t, "behind twenty-one", 1, at(heal+31*ms))
	shrunk := append(slices.Clone(seen), oracle.Length{At: time.Hour, Records: 1}) // set aside
	if n := len(oracle.Grown(town, north, shrunk)); n != 700 {
		t.Errorf("%d passages of a chain that lost records", n)
	}
}

// TestBounded plants a queue that grows past its bound.
func TestBounded(t *testing.T) {
	bounds := map[string]float64{"rss_mb": 100, "queue_bytes": 1 << 20}
	levels := []oracle.Level{{What: "rss_mb", Value: 100}, {At: time.Second, What: "queue_bytes", Where: "500101", Value: 3}}
	holds(t, "within", oracle.Bounded(levels, bounds))
	caught(t, "memory", 1, oracle.Bounded(append(levels, oracle.Level{What: "rss_mb", Value: 100.1}), bounds))
	caught(t, "a queue", 1, oracle.Bounded(append(levels, oracle.Level{What: "queue_bytes", Where: "500102", Value: 1<<20 + 1}), bounds))
	caught(t, "no number", 1, oracle.Bounded(append(levels, oracle.Level{What: "rss_mb", Value: math.NaN()}), bounds))
	caught(t, "no bound", 1, oracle.Bounded(append(levels, oracle.Level{What: "files"}), bounds))
}

// TestLive plants a line that does not come back, and one that is late.
func TestLive(t *testing.T) {
	lines := []oracle.Proof{{Child: town, Parent: north, At: 60 * time.Second}, {Child: north, Parent: city, At: 90 * time.Second}}
	holds(t, "in time", oracle.Live(lines, time.Minute, 30*time.Second))
	caught(t, "late", 1, oracle.Live(lines, time.Minute, 29*time.Second))
	caught(t, "never", 1, oracle.Live(append(lines, oracle.Proof{Child: other, Parent: north, At: -1}), time.Minute, 30*time.Second))
	caught(t, "only before the heal", 1, oracle.Live(append(lines, oracle.Proof{Child: other, Parent: north, At: 50 * time.Second}), time.Minute, 30*time.Second))
}

// TestExamples: a verdict counts every violation and describes the first few.
func TestExamples(t *testing.T) {
	v := oracle.Bounded(make([]oracle.Level, 50), nil)
	if v.Violations != 50 || v.Checked != 50 || len(v.Examples) != 10 {
		t.Errorf("%+v", v)
	}
}
