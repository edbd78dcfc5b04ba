package node

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers"
)

// How many findings are kept for the operator: of one kind, and in all. Where there are
// more, the oldest of the kind that has the most goes: no kind drives another one out,
// however often it is found.
const (
	alarmsOfKind = 8
	alarmsMax    = 256
)

// alarmKind is what a finding is about. What is found again of one kind and subject is
// one finding, counted.
type alarmKind string

// The kinds of findings.
const (
	alarmApp           alarmKind = "app"
	alarmBlocked       alarmKind = "blocked"
	alarmBootstrap     alarmKind = "bootstrap"
	alarmBundle        alarmKind = "bundle"
	alarmCalendar      alarmKind = "calendar"
	alarmCatalog       alarmKind = "catalog"
	alarmConfiguration alarmKind = "configuration"
	alarmCredentials   alarmKind = "credentials"
	alarmFork          alarmKind = "fork"
	alarmHeld          alarmKind = "held"
	alarmIndicator     alarmKind = "indicator"
	alarmMember        alarmKind = "member"
	alarmMode          alarmKind = "mode"
	alarmNamesake      alarmKind = "namesake"
	alarmPeer          alarmKind = "peer"
	alarmPlan          alarmKind = "plan"
	alarmRelay         alarmKind = "relay"
	alarmRepair        alarmKind = "repair"
	alarmRetired       alarmKind = "retired"
	alarmRolledBack    alarmKind = "rolled_back"
	alarmRouting       alarmKind = "routing"
	alarmRule          alarmKind = "rule"
	alarmScrub         alarmKind = "scrub"
	alarmSilence       alarmKind = "silence"
	alarmStranger      alarmKind = "stranger"
	alarmTopology      alarmKind = "topology"
	alarmUnreadable    alarmKind = "unreadable"
)

// alarms are the findings that an operator should see. Safe for concurrent use.
type alarms struct {
	now func() time.Time

	mu   sync.Mutex // guards list
	list []alarm    // by when each was found last
}

// alarm is one finding, and when and how often it was made.
type alarm struct {
	kind        alarmKind
	subject     string
	text        string // as it was found last
	first, last time.Time
	times       int
	ack         *api.AckNote // nil for nobody's
}

func newAlarms(now func() time.Time) *alarms { return &alarms{now: now} }

// raise notes a finding: of a kind, about a subject. One that stands in the list moves
// to its end, is counted, and says what was found last.
func (a *alarms) raise(kind alarmKind, subject, text string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	x := alarm{kind: kind, subject: subject, first: now}
	if i := slices.IndexFunc(a.list, func(o alarm) bool { return o.kind == kind && o.subject == subject }); i >= 0 {
		x = a.list[i]
		a.list = slices.Delete(a.list, i, i+1)
	}
	if x.text != text {
		x.ack = nil // it says something else: somebody should look again
	}
	x.text, x.last = text, now
	x.times++
	a.list = append(a.list, x)
	if a.count(kind) > alarmsOfKind {
		a.drop(kind)
	}
	if len(a.list) > alarmsMax {
		most := slices.MaxFunc(a.list, func(x, y alarm) int { return cmp.Compare(a.count(x.kind), a.count(y.kind)) })
		a.drop(most.kind)
	}
}

// count is how many findings of a kind there are.
func (a *alarms) count(kind alarmKind) (n int) {
	for _, x := range a.list {
		if x.kind == kind {
			n++
		}
	}
	return n
}

// drop drops the oldest finding of a kind.
func (a *alarms) drop(kind alarmKind) {
	if i := slices.IndexFunc(a.list, func(x alarm) bool { return x.kind == kind }); i >= 0 {
		a.list = slices.Delete(a.list, i, i+1)
	}
}

// raiseOf notes a finding about a peer's conduct: those about each peer are a kind of
// their own, so that none drives out the findings about others.
func (a *alarms) raiseOf(peer tiers.SiteID, text string) {
	a.raise(alarmPeer+alarmKind(" "+string(peer)), text, text)
}

// once notes a finding that stands, unless it is in the list.
func (a *alarms) once(kind alarmKind, subject, text string) {
	a.mu.Lock()
	known := slices.ContainsFunc(a.list, func(o alarm) bool { return o.kind == kind && o.subject == subject && o.text == text })
	a.mu.Unlock()
	if !known {
		a.raise(kind, subject, text)
	}
}

// all lists the findings that nobody has acknowledged, the latest last.
func (a *alarms) all() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := []string{}
	for _, x := range a.list {
		if x.ack != nil {
			continue
		}
		line := x.last.UTC().Format(time.RFC3339) + " " + x.text
		if x.times > 1 {
			line += fmt.Sprintf(" (%d times)", x.times)
		}
		out = append(out, line)
	}
	return out
}

// id names a finding: it is the same for one of the same kind and subject, also after
// a start.
func (x alarm) id() string {
	sum := sha256.Sum256([]byte(string(x.kind) + "\x00" + x.subject))
	return hex.EncodeToString(sum[:4])
}

// listed returns every finding, the latest last.
func (a *alarms) listed() api.AlarmList {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := api.AlarmList{Alarms: []api.Alarm{}}
	for _, x := range a.list {
		out.Alarms = append(out.Alarms, api.Alarm{
			ID: x.id(), Kind: string(x.kind), Text: x.text, First: x.first.UTC(), Last: x.last.UTC(), Times: x.times, Ack: x.ack,
		})
	}
	return out
}

// acknowledge notes who has seen to findings, all or none. The error wraps
// [api.ErrNotFound] or [api.ErrInvalid] and names the identifier.
func (a *alarms) acknowledge(q api.AlarmAck) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var at []int
	for _, id := range q.IDs {
		var found []int
		for i, x := range a.list {
			if id != "" && strings.HasPrefix(x.id(), id) {
				found = append(found, i)
			}
		}
		switch len(found) {
		case 0:
			return fmt.Errorf("%w: no alarm %q at this node: see tiermesh alarm list", api.ErrNotFound, id)
		case 1:
			at = append(at, found[0])
		default:
			return fmt.Errorf("%w: %d alarms begin with %q: give more of it", api.ErrInvalid, len(found), id)
		}
	}
	note := &api.AckNote{Who: q.Who, Note: q.Note, At: a.now().UTC()}
	for _, i := range at {
		a.list[i].ack = note
	}
	return nil
}
