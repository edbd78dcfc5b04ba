package node

import (
	"fmt"
	"slices"
	"sync"
	"time"
)

// alarmsMax is how many alarms are kept for the operator; the oldest go first.
const alarmsMax = 64

// alarms are the findings that an operator should see. Safe for concurrent use.
type alarms struct {
	now func() time.Time

	mu   sync.Mutex // guards list
	list []alarm
}

// alarm is one finding, and when and how often it was made.
type alarm struct {
	text  string
	last  time.Time
	times int
}

func newAlarms(now func() time.Time) *alarms { return &alarms{now: now} }

// raise notes a finding. One that stands in the list moves to its end and is
// counted, so that what repeats itself drives nothing else out.
func (a *alarms) raise(text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	x := alarm{text: text}
	if i := slices.IndexFunc(a.list, func(o alarm) bool { return o.text == text }); i >= 0 {
		x = a.list[i]
		a.list = slices.Delete(a.list, i, i+1)
	}
	x.last = a.now()
	x.times++
	a.list = append(a.list, x)
	if over := len(a.list) - alarmsMax; over > 0 {
		a.list = slices.Delete(a.list, 0, over)
	}
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
