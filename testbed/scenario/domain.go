package scenario

import (
	"slices"
	"time"

	"github.com/tiermesh/tiermesh/tiers"
)

// The commands about the domain. What one makes has a name, by which later ones
// mean it. A site that is down, or has not heard yet of what it is asked about, is
// asked again for a while.
type (
	// Event reports one event and waits for its acknowledgement; rules then make a
	// task of it.
	Event struct {
		Name   string
		Urgent bool
		Type   string // empty for that of made reports
		At     tiers.SiteID
	}
	// Task makes a move of the life of tasks on the task of an event.
	Task struct {
		Event, Move string
		To, At      tiers.SiteID // To is of moves that offer it to a site
	}
	// Work has clients of each of the sites make moves on the tasks there, those that
	// may be made, PerSecond times until For is over, as Report. On says what else they
	// do instead: see [WorkOn].
	Work struct {
		PerSecond float64
		On        string
		For       time.Duration
		At        Sites
	}
	// Unit registers a free unit.
	Unit struct {
		Name, Skill string
		At          tiers.SiteID
	}
	// Send claims a unit at a site that may send it: for an event's task, or for
	// anything else. Force takes it from whoever has it.
	Send struct {
		Unit, To string
		Force    bool
		At       tiers.SiteID
	}
	// Recall frees a unit that a site has sent.
	Recall struct {
		Unit string
		At   tiers.SiteID
	}
	// Ask asks another site for a unit with a skill.
	Ask struct {
		Name, Skill string
		Of, At      tiers.SiteID
	}
	// Lend lends units of a site to one below it.
	Lend struct {
		Name  string
		Units []string
		To    tiers.SiteID
		For   time.Duration
		At    tiers.SiteID
	}
	// GiveBack gives back what was asked for, or a pool, at the site that has it.
	GiveBack struct{ Name string }
	// TakeBack takes a pool back, at the site whose it is.
	TakeBack struct {
		Name  string
		Force bool
	}
	// Aid has clients of each of the sites register units and send, recall, ask for,
	// lend and take back at random, PerSecond times until For is over, as Report.
	Aid struct {
		PerSecond float64
		For       time.Duration
		At        Sites
	}
	// Rule publishes a dispatch rule, or a changed one, in a site's catalog.
	Rule struct {
		Code, Organ string
		Order       int // the lowest that matches decides
		Type, Skill string
		Mode        string // in which it holds; empty for both
		To, At      tiers.SiteID
	}
	// Duplicate reports the same type and place as an event's once more, now.
	Duplicate struct {
		Name, Of string
		At       tiers.SiteID
	}
	// Merge says at a site that two events are one.
	Merge struct {
		Event, With string
		At          tiers.SiteID
	}
	// Order gives an order to sites below a site.
	Order struct {
		Name string
		To   Sites
		At   tiers.SiteID
	}
	// Receipt makes a step of an order at a site: a target's, or its issuer's.
	Receipt struct {
		Order, Step string
		At          tiers.SiteID
	}
	// Mode switches an area, which is a site with all below it.
	Mode struct {
		Mode    string // ModeEmergency, in which every limit counts round the clock, or ModeNormal
		For, At tiers.SiteID
	}
	// Refused is a command about the domain that the site must refuse, as things
	// stand there.
	Refused struct{ Do Command }
)

// Moves lists what can be done to a task, in order.
func Moves() []string {
	out := make([]string, 0, len(moves))
	for _, m := range moves {
		out = append(out, m.name)
	}
	return out
}

// moves are the moves of a task's life, as package dispatch has them, and whether
// they name a site. Left out are those that sites make by themselves or that need
// another task.
var moves = []struct {
	name string
	to   bool
}{
	{"accept", false}, {"assign", true}, {"close", false}, {"delegate", true}, {"dispose", false}, {"dispute", false},
	{"escalate", true}, {"evaluate", false}, {"extend", false}, {"feedback", false}, {"override", false}, {"reopen", false},
	{"resume", false}, {"return", false}, {"rule", true}, {"sign", false}, {"standdown", false}, {"supervise", false},
	{"suspend", false}, {"verify", false}, {"void", false},
}

// Receipts lists what can be done about an order, by a target or by its issuer.
func Receipts() []string { return slices.Clone(receipts) }

var receipts = []string{"ack", "execute", "refuse", "report", "cancel", "remind"}

// The modes.
const (
	ModeEmergency = "emergency"
	ModeNormal    = "normal"
)

// What clients can do besides moves on tasks.
const (
	// OnOrders is to give orders to sites below, to make the steps that a target or an
	// issuer may make, and some that it may not.
	OnOrders = "orders"
	// OnDuplicates is to report the same at two sites, to merge events and to take
	// that back.
	OnDuplicates = "duplicates"
	// OnMode is to switch areas to emergency and back.
	OnMode = "mode"
)

// WorkOn lists what clients can do besides moves on tasks.
func WorkOn() []string { return []string{OnOrders, OnDuplicates, OnMode} }

// named is what a name stands for.
type named string

// What a name can stand for.
const (
	namedEvent   named = "event"
	namedRequest named = "request"
	namedPool    named = "pool"
	namedUnit    named = "unit"
	namedOrder   named = "order"
	namedSite    named = "site" // which has its code for a name
)
