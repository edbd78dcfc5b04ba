package command

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// KindMode is the document of one site's switches of one area; also its index.
const KindMode = "mode"

// The modes.
const (
	ModeNormal    = "normal"    // 平时
	ModeEmergency = "emergency" // 急时
)

// Levels of an emergency: 1 is the most severe.
const (
	LevelMin = 1
	LevelMax = 4
)

// How time limits count in an emergency.
const (
	// HoursRuled leaves limits as the rules give them.
	HoursRuled = ""
	// HoursUrgent counts every limit round the clock: a working hour as one hour, a
	// working day as 24.
	HoursUrgent = "urgent"
)

// Switch is one switch of the mode of an area (平急转换). It is immutable.
type Switch struct {
	At crdt.HybridTime `json:"at"`
	// By is the site that switches, Tier its tier.
	By   tiers.SiteID `json:"by"`
	Tier tiers.Tier   `json:"tier,omitempty"`
	// Area is the site that it is for, with all below it.
	Area tiers.SiteID `json:"area"`
	Mode string       `json:"mode"`
	// Level is 1 (most severe) to 4; 0 in normal mode.
	Level int `json:"level,omitempty"`
	// Hours is how limits count: HoursRuled or HoursUrgent.
	Hours  string `json:"hours,omitempty"`
	Who    string `json:"who,omitempty"`
	Reason string `json:"reason"`
}

// Validate checks the form of a switch. The error wraps [ErrInvalid].
func (s Switch) Validate() error {
	if err := s.Area.Validate(); err != nil {
		return fmt.Errorf("%w: area: %w", ErrInvalid, err)
	}
	switch {
	case s.Mode != ModeNormal && s.Mode != ModeEmergency:
		return fmt.Errorf("%w: mode %.64q: want %s or %s", ErrInvalid, s.Mode, ModeNormal, ModeEmergency)
	case s.Mode == ModeEmergency && (s.Level < LevelMin || s.Level > LevelMax):
		return fmt.Errorf("%w: level %d: want %d (most severe) to %d", ErrInvalid, s.Level, LevelMin, LevelMax)
	case s.Mode == ModeNormal && (s.Level != 0 || s.Hours != HoursRuled):
		return fmt.Errorf("%w: level %d, hours %.64q: normal mode takes none", ErrInvalid, s.Level, s.Hours)
	case s.Hours != HoursRuled && s.Hours != HoursUrgent:
		return fmt.Errorf("%w: hours %.64q: want %s, or none for limits as the rules give them", ErrInvalid, s.Hours, HoursUrgent)
	case s.Reason == "":
		return fmt.Errorf("%w: reason is empty: a switch of the mode says why", ErrInvalid)
	}
	if err := checkText("reason", s.Reason, textBytesMax); err != nil {
		return err
	}
	return checkText("who", s.Who, nameBytesMax)
}

// ModeID names the document of the switches of an area.
func ModeID(area tiers.SiteID) tiers.DocID { return tiers.NewDocID(KindMode, string(area)) }

// SwitchOps returns the operations that switch; create is for the document's first.
func SwitchOps(s Switch, create bool) ([]crdt.Op, error) {
	op, err := appendOp(s)
	if create {
		return []crdt.Op{{Kind: crdt.OpMakeList, Key: keySteps}, op}, err
	}
	return []crdt.Op{op}, err
}

// ModeView is what people see of one site's switches of one area.
type ModeView struct {
	ID     tiers.DocID  `json:"id"`
	Stream string       `json:"stream"`
	Site   tiers.SiteID `json:"site"`
	Area   tiers.SiteID `json:"area"`
	// Last is the switch that stands.
	Last     Switch   `json:"last"`
	Switches []Switch `json:"switches"`
	Faults
}

// FoldMode derives the view of one site's switches of one area: the last by hybrid
// time stands.
func FoldMode(s *crdt.Source) (crdt.View, error) {
	v := ModeView{ID: s.Doc, Stream: s.Stream.String(), Site: s.Stream.Site, Area: tiers.SiteID(s.Doc.Name())}
	var bad int
	v.Switches, bad = readSteps(s, func(x Switch) crdt.HybridTime { return x.At }, func(x Switch, author tiers.SiteID) bool {
		return author == v.Site && x.By == author && x.Area == v.Area && x.Validate() == nil
	})
	v.Faults = Faults{bad, s.Pending, s.Refused}
	if n := len(v.Switches); n > 0 {
		v.Last = v.Switches[n-1]
	}
	return made(s, v, crdt.IndexEntry{Name: KindMode, Value: string(v.Area)})
}

// ModeFromView reads a view back. The error wraps [ErrInvalid].
func ModeFromView(b []byte) (v ModeView, err error) {
	if err := json.Unmarshal(b, &v); err != nil {
		return v, fmt.Errorf("%w: mode: %w", ErrInvalid, err)
	}
	return v, nil
}

// Standing is the mode that a site is in, as far as who asks has heard.
type Standing struct {
	Site  tiers.SiteID `json:"site"`
	Mode  string       `json:"mode"`
	Level int          `json:"level,omitempty"`
	Hours string       `json:"hours,omitempty"`
	// Holding are the emergencies that stand for it, the most severe first.
	Holding []Switch `json:"holding"`
}

// Lineage are the documents that a site's mode follows from: of the site and of each
// site above it, for each area that it is in.
func Lineage(t *tiers.Topology, site tiers.SiteID) (out []struct{ By, Area tiers.SiteID }) {
	up := append([]tiers.SiteID{site}, t.Ancestors(site)...)
	for i, by := range up {
		for _, area := range up[:i+1] {
			out = append(out, struct{ By, Area tiers.SiteID }{by, area})
		}
	}
	return out
}

// Effective returns the mode of a site: emergency as long as any site that is it or
// stands above it holds one for an area that it is in; the most severe level counts,
// and limits count round the clock when one of them says so. Only who declared an
// emergency lifts it. It is a function of the set of views.
func Effective(t *tiers.Topology, site tiers.SiteID, views []ModeView) Standing {
	out := Standing{Site: site, Mode: ModeNormal, Holding: []Switch{}}
	lineage := Lineage(t, site)
	for _, v := range views {
		in := slices.Contains(lineage, struct{ By, Area tiers.SiteID }{v.Site, v.Area})
		if !in || v.Last.Mode != ModeEmergency || slices.Contains(out.Holding, v.Last) {
			continue
		}
		out.Holding = append(out.Holding, v.Last)
		if out.Mode = ModeEmergency; out.Level == 0 || v.Last.Level < out.Level {
			out.Level = v.Last.Level
		}
		out.Hours = max(out.Hours, v.Last.Hours)
	}
	slices.SortFunc(out.Holding, func(a, b Switch) int {
		return cmp.Or(cmp.Compare(a.Level, b.Level), cmp.Compare(a.Tier, b.Tier), cmp.Compare(a.By, b.By), cmp.Compare(a.Area, b.Area))
	})
	return out
}
