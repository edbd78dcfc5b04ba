package federation_test

import (
	"container/heap"
	"strings"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/transport/wire"
)

// slowLink plays one link in virtual time: every byte of a record takes its turn
// on a first-come first-served hop, whatever its lane, which is worse than QUIC.
type slowLink struct {
	w      *world
	l      *link
	rate   float64 // bytes a second, each way
	delay  time.Duration
	disk   time.Duration // from the arrival of a batch to its durability
	jitter time.Duration // more delay for each message than for the last, up to this
	sent   int
	now    time.Duration
	free   [2]time.Duration // when the hop towards an end is free again
	events eventQueue
	stored map[crdt.ChainID]uint64
	// landed is when each record of the urgent stream became durable.
	landed []time.Duration
}

type event struct {
	at time.Duration
	n  int // of two at the same time, the earlier one goes first
	do func()
}

type eventQueue []event

func (q eventQueue) Len() int { return len(q) }
func (q eventQueue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].n < q[j].n
}
func (q eventQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *eventQueue) Push(e any)   { *q = append(*q, e.(event)) }
func (q *eventQueue) Pop() any {
	old := *q
	e := old[len(old)-1]
	*q = old[:len(old)-1]
	return e
}

func (s *slowLink) after(d time.Duration, do func()) {
	heap.Push(&s.events, event{s.now + d, len(s.events) + int(s.now), do})
}

// settle moves what the sessions want sent onto the link.
func (s *slowLink) settle() {
	s.w.drain(s.l)
	for i := range s.l.ends {
		for lane := range s.l.queue[i] {
			for _, m := range s.l.queue[i][lane] {
				size := 40
				if b, ok := m.(*wire.Batch); ok {
					for _, r := range b.Records {
						size += len(r)
					}
				}
				s.free[i] = max(s.free[i], s.now) + time.Duration(float64(size)/s.rate*float64(time.Second))
				s.sent++
				late := s.jitter * time.Duration(min(s.sent, 1000)) / 1000 // the first round trip is the shortest
				s.after(s.free[i]-s.now+s.delay+late, func() { s.arrive(i, m) })
			}
			s.l.queue[i][lane] = nil
		}
	}
}

func (s *slowLink) arrive(i int, m wire.Message) {
	s.l.s[i].Now(s.now)
	s.l.s[i].Step(m)
	s.settle()
	if len(s.l.ingest[i]) > 0 {
		s.after(s.disk, func() {
			s.w.store(s.l, i)
			for c, records := range s.w.sites[s.l.ends[i]].records {
				for s.stored[c] < uint64(len(records)) {
					if s.stored[c]++; c.Stream.Class == tiers.ClassUrgent {
						s.landed = append(s.landed, s.now)
					}
				}
			}
			s.settle()
		})
	}
}

func (s *slowLink) run() {
	for s.events.Len() > 0 {
		e := heap.Pop(&s.events).(event)
		s.now = e.at
		for i := range s.l.s {
			s.l.s[i].Now(s.now)
		}
		e.do()
	}
}

func newSlowLink(t *testing.T, rate float64, rtt time.Duration, records, bytes int) *slowLink {
	t.Helper()
	w, err := newWorld("c\nd1 c\nt1 x d1\n")
	if err != nil {
		t.Fatal(err)
	}
	body := strings.Repeat("x", bytes)
	bulk := crdt.ChainID{Stream: tiers.StreamID{Site: "t1", Class: tiers.ClassBulk}, Author: crdt.Author{Site: "t1", Incarnation: 1}}
	record := crdt.Record{Kind: crdt.RecordChange, Time: 1, Doc: "file:f", Body: []byte(body)}.AppendTo(nil)
	for range records {
		w.sites["t1"].records[bulk] = append(w.sites["t1"].records[bulk], record)
	}
	s := &slowLink{w: w, rate: rate, delay: rtt / 2, disk: 2 * time.Millisecond, stored: map[crdt.ChainID]uint64{}}
	s.l = w.connect("t1", "d1")
	s.l.slow = true
	s.settle()
	return s
}

// TestUrgentBehindBacklog: at 500 kbit/s and 60 ms an urgent record overtakes a
// backlog of bulk within half a second, although the hop itself knows no lanes,
// and the backlog keeps the link busy.
func TestUrgentBehindBacklog(t *testing.T) {
	const records = 1200
	s := newSlowLink(t, 62_500, 60*time.Millisecond, records, 1000)
	urgent := tiers.StreamID{Site: "t1", Class: tiers.ClassUrgent}
	var written []time.Duration
	for i := range 30 {
		s.after(time.Duration(i)*500*time.Millisecond, func() {
			written = append(written, s.now)
			s.w.write("t1", urgent, "help")
			s.settle()
		})
	}
	s.run()
	if len(s.landed) != len(written) {
		t.Fatalf("%d of %d urgent records arrived", len(s.landed), len(written))
	}
	for i, at := range s.landed {
		if took := at - written[i]; took > 500*time.Millisecond {
			t.Errorf("urgent record %d took %s", i, took)
		}
	}
	if ideal := time.Duration(records * 1022.0 / 62_500 * float64(time.Second)); s.now > ideal*5/4 {
		t.Errorf("the backlog took %s, at the link's rate %s", s.now, ideal)
	}
}

// TestFastLinkIsFilled: a fast link is used, near or far.
func TestFastLinkIsFilled(t *testing.T) {
	for name, rtt := range map[string]time.Duration{"near": 200 * time.Microsecond, "far": 60 * time.Millisecond} {
		const records, size, rate = 200, 50_000, 20e6 // few: the naive sites fold every chain from its start
		s := newSlowLink(t, rate, rtt, records, size)
		s.run()
		if ideal := time.Duration(records * size / rate * float64(time.Second)); s.now > ideal*7/5+10*rtt {
			t.Errorf("%s: the backlog took %s, at the link's rate %s", name, s.now, ideal)
		}
	}
}

// TestBulkBesideUrgent: urgent records that come faster than one a round trip,
// without end, delay bulk and do not stop it.
func TestBulkBesideUrgent(t *testing.T) {
	const records = 1200
	s := newSlowLink(t, 62_500, 600*time.Millisecond, records, 1000)
	s.jitter = 5 * time.Millisecond
	urgent := tiers.StreamID{Site: "t1", Class: tiers.ClassUrgent}
	bulk := crdt.ChainID{Stream: tiers.StreamID{Site: "t1", Class: tiers.ClassBulk}, Author: crdt.Author{Site: "t1", Incarnation: 1}}
	for i := range 400 {
		s.after(time.Duration(i)*200*time.Millisecond, func() {
			s.w.write("t1", urgent, "help")
			s.settle()
			if i == 399 && s.stored[bulk] < records {
				t.Errorf("%d of %d bulk records while urgent ones came for %s", s.stored[bulk], records, s.now)
			}
		})
	}
	s.run()
}
