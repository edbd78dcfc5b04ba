package node

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/tiermesh/tiermesh/tiers"
)

// alarmsMax is how many alarms are kept for the operator; the oldest go first.
const alarmsMax = 64

// alarmsOfPeer is how many of these one peer can be the cause of, so that none
// drives the findings about others out.
const alarmsOfPeer = 8

// alarms are the findings that an operator should see. Safe for concurrent use.
type alarms struct {
	now func() time.Time

	mu   sync.Mutex // guards list
	list []alarm
}

// alarm is one finding, and when and how often it was made.
type alarm struct {
	text  string
	peer  tiers.SiteID // whose conduct it is; empty for no peer's
	last  time.Time
	times int
}

func newAlarms(now func() time.Time) *alarms { return &alarms{now: now} }

// raise notes a finding. One that stands in the list moves to its end and is
// counted, so that what repeats itself drives nothing else out.
func (a *alarms) raise(text string) { a.raiseOf("", text) }

// raiseOf notes a finding about a peer's conduct.
func (a *alarms) raiseOf(peer tiers.SiteID, text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	x := alarm{text: text, peer: peer}
	if i := slices.IndexFunc(a.list, func(o alarm) bool { return o.text == text }); i >= 0 {
		x = a.list[i]
		a.list = slices.Delete(a.list, i, i+1)
	}
	x.last = a.now()
	x.times++
	a.list = append(a.list, x)
	same := func(o alarm) bool { return o.peer == peer }
	if n := count(a.list, same); peer != "" && n > alarmsOfPeer {
		i := slices.IndexFunc(a.list, same)
		a.list = slices.Delete(a.list, i, i+1)
	}
	if over := len(a.list) - alarmsMax; over > 0 {
		a.list = slices.Delete(a.list, 0, over)
	}
}

func count(list []alarm, is func(alarm) bool) (n int) {
	for _, x := range list {
		if is(x) {
			n++
		}
	}
	return n
}

// once notes a finding that stands, unless it is in the list.
func (a *alarms) once(text string) {
	a.mu.Lock()
	known := slices.ContainsFunc(a.list, func(o alarm) bool { return o.text == text })
	a.mu.Unlock()
	if !known {
		a.raise(text)
	}
}

func (a *alarms) all() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]string, len(a.list))
	for i, x := range a.list {
		out[i] = x.last.UTC().Format(time.RFC3339) + " " + x.text
		if x.times > 1 {
			out[i] += fmt.Sprintf(" (%d times)", x.times)
		}
	}
	return out
}
