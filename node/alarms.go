package node

import (
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
	list []string
}

func newAlarms(now func() time.Time) *alarms { return &alarms{now: now} }

func (a *alarms) raise(text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.list = append(a.list, a.now().UTC().Format(time.RFC3339)+" "+text)
	if over := len(a.list) - alarmsMax; over > 0 {
		a.list = slices.Delete(a.list, 0, over)
	}
}

func (a *alarms) all() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.list)
}
