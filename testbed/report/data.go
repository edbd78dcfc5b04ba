package report

import (
	"fmt"
	"time"

	"github.com/tiermesh/tiermesh/testbed/oracle"
)

// Data is a run, as report.json holds it. Offsets count from Began, in the time of
// the run's world.
type Data struct {
	File   string `json:"file"`
	About  string `json:"about,omitempty"`
	Mode   string `json:"mode"`
	Seed   uint64 `json:"seed"`
	Script string `json:"script"`
	// Began is when the run began, by the clock of who started it.
	Began time.Time `json:"began"`
	// WorldS is how long it lasted in its world's time, TookS in real time.
	WorldS float64 `json:"world_s"`
	TookS  float64 `json:"took_s"`
	Count  Counts  `json:"counts"`
	// Faults are in the order in which they began.
	Faults []Fault `json:"faults"`
	// Samples are in order of time.
	Samples  []Sample         `json:"samples"`
	Sites    []Site           `json:"sites"`
	Expected []Expectation    `json:"expected"`
	Verdicts []oracle.Verdict `json:"verdicts"`
	// Failure says why the run ended early; empty when it did not.
	Failure string `json:"failure,omitempty"`
}

// Counts are a run's totals.
type Counts struct {
	Sites        int    `json:"sites"`
	Reported     uint64 `json:"reported"`
	Acknowledged uint64 `json:"acknowledged"`
	// WireBytes are the UDP payload bytes that sites sent, NeededBytes the bytes of
	// the batches that carried something new.
	WireBytes   uint64  `json:"wire_bytes"`
	NeededBytes uint64  `json:"needed_bytes"`
	ConvergeS   float64 `json:"converge_s"`
	CPUS        float64 `json:"cpu_s"`
	RSSMB       float64 `json:"rss_mb"`
	// Machine says, in real time, how fast and how busy the machine was before the
	// run and after it: what to read its times by. Empty in virtual time.
	Machine []Machine `json:"machine,omitempty"`
	// Late are time-outs of the script that were not kept, in real time, although
	// what they wait for came.
	Late []string `json:"late,omitempty"`
}

// Fault is something that was done to the federation.
type Fault struct {
	FromS float64 `json:"from_s"`
	// ToS is when it ended; negative when it lasted to the end or had no length.
	ToS  float64 `json:"to_s"`
	What string  `json:"what"`
	Line int     `json:"line"`
}

// Sample is the federation at one moment.
type Sample struct {
	AtS          float64 `json:"at_s"`
	Reported     uint64  `json:"reported"`
	Acknowledged uint64  `json:"acknowledged"`
	// Owed is the backlog in records by lane's name, over all sites.
	Owed map[string]uint64 `json:"owed"`
	// Links counts the lines of the tree, Connected those in use and Equal those
	// proven equal at both ends.
	Links     int     `json:"links"`
	Connected int     `json:"connected"`
	Equal     int     `json:"equal"`
	WireBytes uint64  `json:"wire_bytes"`
	RSSMB     float64 `json:"rss_mb"`
}

// Site is one site's part in a run.
type Site struct {
	ID     string `json:"id"`
	Name   string `json:"name"`
	Tier   string `json:"tier"`
	Parent string `json:"parent,omitempty"`
	Acked  uint64 `json:"acked"`
	// ConvergedS is how long after the last fault its link to its parent was found
	// equal and stayed so; negative for never. Sites without a link have no Parent.
	ConvergedS float64 `json:"converged_s"`
	// CutS is for how long it was cut from its parent, in all.
	CutS float64 `json:"cut_s"`
}

// Expectation is one that a script states, and what came of it.
type Expectation struct {
	Line  int    `json:"line"`
	Text  string `json:"text"`
	Got   string `json:"got"`
	Holds bool   `json:"holds"`
	// Told says that what was measured depends on the machine: it is told and judged
	// by nobody, so that Holds says nothing.
	Told bool `json:"told,omitempty"`
}

// Failed reports whether what was expected is not so.
func (e Expectation) Failed() bool { return !e.Holds && !e.Told }

// Machine is what a fixed piece of work took on one processor, at one moment. Times
// of two runs can be compared where it took the same.
type Machine struct {
	CPUs int `json:"cpus"`
	// CPUMS is the processor time that it took, ClockMS the time by the clock: as
	// many times as long as others had the processor.
	CPUMS   float64 `json:"work_cpu_ms"`
	ClockMS float64 `json:"work_clock_ms"`
}

// String is a line for a person.
func (m Machine) String() string {
	return fmt.Sprintf("a fixed piece of work took %.1f ms of one of %d processors, %.1f times as long by the clock", m.CPUMS, m.CPUs, m.ClockMS/max(m.CPUMS, 0.001))
}

// Holds reports whether the run went to its end, everything expected held and no
// oracle found a violation.
func (d *Data) Holds() bool {
	for _, e := range d.Expected {
		if e.Failed() {
			return false
		}
	}
	for _, v := range d.Verdicts {
		if !v.Holds() {
			return false
		}
	}
	return d.Failure == ""
}
