package scenario

import (
	"time"

	"github.com/tiermesh/tiermesh/tiers"
)

// Script is a parsed and checked scenario.
type Script struct {
	// File is the name it was read under.
	File string
	// About is the comment at its head: its one idea.
	About string
	// Source is its text as it was read; empty for one that was not.
	Source string
	// Federation is what it builds.
	Federation Federation
	// Steps are its commands, in order.
	Steps []Step
	// Seed drives everything random: the noise of lines, the choice of reports,
	// drawn outages.
	Seed uint64
	// Limit bounds the run, in the time of its world.
	Limit time.Duration
}

// Federation is what a scenario builds before its first step.
type Federation struct {
	// Sites have code, tier, name and parent; keys and addresses are the world's.
	Sites []tiers.Site
	// Nodes is how many nodes a site has; one that is absent has 1.
	Nodes map[tiers.SiteID]int
	// Line is every line at the start.
	Line Line
}

// NodesOf returns how many nodes a site has.
func (f Federation) NodesOf(id tiers.SiteID) int { return max(f.Nodes[id], 1) }

// Line is what a line does with datagrams in one direction.
type Line struct {
	// Cut drops everything.
	Cut bool
	// BitsPerSecond is its rate; zero means unlimited.
	BitsPerSecond int64
	// Delay is added to each datagram.
	Delay time.Duration
	// Loss is the share of datagrams that are dropped, 0 to 1.
	Loss float64
	// MTU is the largest packet that passes, with its headers; larger ones vanish, and
	// nothing tells the sender. Zero means what any sender's own interface takes.
	MTU int
}

// HeaderBytes are those of IPv4 and UDP, around a datagram's payload.
const HeaderBytes = 28

// Fits reports whether a datagram is no larger than the line's MTU.
func (l Line) Fits(payloadBytes int) bool { return l.MTU == 0 || payloadBytes+HeaderBytes <= l.MTU }

// Step is one command of a script.
type Step struct {
	// Line is its line number, from 1.
	Line int
	Do   Command
}

// Command is one of the types below. String returns its text in the scenario
// language, which parses to the same command.
type Command interface{ String() string }

// Sites selects sites: one, those of a tier, those below one, or all.
type Sites struct {
	// ID is one site, or with Tier the one whose children are meant.
	ID tiers.SiteID
	// Tier is the tier of those meant; zero for ID itself, or for all without.
	Tier tiers.Tier
}

// The commands.
type (
	// Publish has the city publish boards, tracks, event types and rules.
	Publish struct{}
	// Report hands events to sites: Count at once, or PerSecond until For is over
	// (zero: until the end or Hush) while the script goes on.
	Report struct {
		Count     int
		PerSecond float64
		For       time.Duration
		From      string // SourceNYC311 or SourceMade
		At        Sites
		Urgent    bool
	}
	// Claim has clients of each of the sites claim and release its units,
	// PerSecond times until For is over, as Report.
	Claim struct {
		PerSecond float64
		For       time.Duration
		At        Sites
	}
	// Hush ends what reports, claims, works and aids per second.
	Hush struct{}
	// Cut cuts a line; OneWay only from A to B.
	Cut struct {
		A, B   tiers.SiteID
		OneWay bool
	}
	// Heal ends a cut and what Slow did; without sites, all of them and every
	// isolation.
	Heal struct{ A, B tiers.SiteID }
	// Isolate cuts sites from every other one; Rejoin ends that.
	Isolate struct{ At Sites }
	// Rejoin ends an isolation.
	Rejoin struct{ At Sites }
	// Flap cuts a line for Down in each Every, until For is over, while the script
	// goes on.
	Flap struct {
		A, B             tiers.SiteID
		Every, Down, For time.Duration
	}
	// Slow shapes a line in both directions.
	Slow struct {
		A, B tiers.SiteID
		Line Line
	}
	// Act does something to a site's nodes, Node 0 meaning all of them.
	Act struct {
		Kind ActKind
		Site tiers.SiteID
		Node uint32
		By   time.Duration // of a clock
	}
	// Reparent publishes a topology in which a site has another parent.
	Reparent struct{ Site, Under tiers.SiteID }
	// Reorganise publishes the reorganisation of 2025-11-06, as far as its sites
	// are there.
	Reorganise struct{}
	// Outages draws outages from a distribution and plays them, while the script
	// goes on: each isolates one of the sites.
	Outages struct {
		Profile string // see testbed/outage
		At      Sites
		// Of is how long it lasted really, Within how long it is played.
		Of, Within time.Duration
	}
	// After waits.
	After struct{ For time.Duration }
	// Until waits for a condition and fails when it does not come in time.
	Until struct {
		What   Condition
		A, B   tiers.SiteID // of "linked"
		Seen   Expect       // of "shown"
		Within time.Duration
	}
	// Expect judges a measure of the run so far.
	Expect struct {
		Measure Measure
		A, B    tiers.SiteID // of "linked" and "unlinked", which have neither Op nor Value
		Op      string       // < <= = >= >
		Value   float64      // durations in seconds
		// Of is the name of what is looked at, At where: all that hold it when At is
		// all. To are the targets of an order, all of them when it is. Word is the value of measures that are no number.
		Of   string
		To   Sites
		At   Sites
		Word string
	}
)

// Where reports come from.
const (
	SourceNYC311 = "nyc311"
	SourceMade   = "made"
)

// ActKind is what is done to a site's nodes.
type ActKind string

// The acts.
const (
	ActKill          ActKind = "kill"           // SIGKILL, or its like
	ActStart         ActKind = "start"          // those that are down
	ActPause         ActKind = "pause"          // SIGSTOP, or its like
	ActResume        ActKind = "resume"         //
	ActDiskFull      ActKind = "disk-full"      // until start
	ActFsyncError    ActKind = "fsync-error"    // the next flush fails; start mends
	ActBitrot        ActKind = "bitrot"         // flips a bit in a file of the store
	ActClock         ActKind = "clock"          // moves the site's clock by By
	ActBackup        ActKind = "backup"         // copies the site's disk aside
	ActRestoreBackup ActKind = "restore-backup" // kills it and puts the copy back
	ActClone         ActKind = "clone"          // starts a second site on that copy
	ActUpgrade       ActKind = "upgrade"        // restarts it speaking the newer version
)

// Condition is what can be waited for.
type Condition string

// The conditions.
const (
	Converged    Condition = "converged"    // every link that can be is proven equal, every view is up to date
	Acknowledged Condition = "acknowledged" // every report is
	Linked       Condition = "linked"       // A and B are linked, and equal
	Shown        Condition = "shown"        // what is named shows as expected
)
