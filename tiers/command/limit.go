package command

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// KindLimit is a time limit of silence, in a site's control stream; also its index.
const KindLimit = "silencelimit"

// Bounds of a time limit of silence, and the limits where nobody set one.
const (
	LimitMin      = 10 * time.Second
	LimitMax      = 30 * 24 * time.Hour
	LimitTownship = 15 * time.Minute
	LimitDistrict = 5 * time.Minute
)

// Limit says after which time without hearing of them sites are silent.
type Limit struct {
	// Site is the one that it is for; empty for all of a tier.
	Site tiers.SiteID `json:"site,omitempty"`
	Tier tiers.Tier   `json:"tier,omitempty"`
	// After is in milliseconds; 0 takes the limit back.
	AfterMS int64 `json:"after_ms"`
	// Event is the priority of the event that a silence opens, 1 to 4; 0 for none.
	Event int `json:"event,omitempty"`
	// By is the site that set it.
	By tiers.SiteID `json:"by,omitempty"`
}

// After is the limit as a duration.
func (l Limit) After() time.Duration { return time.Duration(l.AfterMS) * time.Millisecond }

// Validate checks a limit. The error wraps [ErrInvalid].
func (l Limit) Validate() error {
	if l.Site != "" {
		if err := l.Site.Validate(); err != nil {
			return fmt.Errorf("%w: site: %w", ErrInvalid, err)
		}
	}
	switch {
	case (l.Site == "") == (l.Tier == 0):
		return fmt.Errorf("%w: site %.64q, tier %s: want one of both", ErrInvalid, l.Site, l.Tier)
	case l.Tier != 0 && l.Tier != tiers.TierDistrict && l.Tier != tiers.TierTownship:
		return fmt.Errorf("%w: tier %s: want district or township", ErrInvalid, l.Tier)
	case l.AfterMS != 0 && (l.AfterMS < LimitMin.Milliseconds() || l.AfterMS > LimitMax.Milliseconds()):
		return fmt.Errorf("%w: after %d ms: want %s to %s, or 0 to take it back", ErrInvalid, l.AfterMS, LimitMin, LimitMax)
	case l.Event < 0 || l.Event > 4:
		return fmt.Errorf("%w: event %d: want a priority of 1 to 4, or 0 for no event", ErrInvalid, l.Event)
	}
	return nil
}

// Doc names the document of a limit; no site code holds the dot.
func (l Limit) Doc() tiers.DocID {
	if l.Site == "" {
		return tiers.NewDocID(KindLimit, "tier."+l.Tier.String())
	}
	return tiers.NewDocID(KindLimit, string(l.Site))
}

// LimitOps returns the operations that set a limit. The error wraps [ErrInvalid].
func LimitOps(l Limit) ([]crdt.Op, error) {
	of := l.Tier.String()
	if l.Site != "" {
		of = string(l.Site)
	}
	return crdt.FieldOps([2]string{"of", of}, [2]string{"after_ms", strconv.FormatInt(l.AfterMS, 10)}, [2]string{"event", strconv.Itoa(l.Event)}), l.Validate()
}

// FoldLimit derives the view of a limit: a map of fields.
func FoldLimit(s *crdt.Source) (crdt.View, error) { return s.FieldView() }

// LimitFromView reads a limit back. The error wraps [ErrInvalid].
func LimitFromView(b []byte) (Limit, error) {
	var v struct {
		ID     tiers.DocID       `json:"id"`
		Site   tiers.SiteID      `json:"site"`
		Fields map[string]string `json:"fields"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return Limit{}, fmt.Errorf("%w: limit of silence: %w", ErrInvalid, err)
	}
	l := Limit{By: v.Site}
	if l.Tier.UnmarshalText([]byte(v.Fields["of"])) != nil || v.ID != l.Doc() {
		l.Tier, l.Site = 0, tiers.SiteID(v.ID.Name())
	}
	var err error
	if l.AfterMS, err = strconv.ParseInt(v.Fields["after_ms"], 10, 64); err == nil {
		l.Event, err = strconv.Atoi(v.Fields["event"])
	}
	if err != nil {
		return Limit{}, fmt.Errorf("%w: %s: %w", ErrInvalid, v.ID, err)
	}
	return l, l.Validate()
}

// LimitOf returns the limit that holds for a site, of those that sites above it set:
// one for the site itself before one for its tier, of several the highest site's, and
// the built-in one when there is none.
func LimitOf(t *tiers.Topology, site tiers.SiteID, set []Limit) Limit {
	row, _ := t.Site(site)
	best := Limit{Tier: row.Tier, AfterMS: LimitTownship.Milliseconds()}
	if row.Tier != tiers.TierTownship {
		best.AfterMS = LimitDistrict.Milliseconds()
	}
	for _, l := range set {
		if l.AfterMS == 0 || !t.IsAncestor(l.By, site) || l.Site != site && (l.Site != "" || l.Tier != row.Tier) {
			continue
		}
		switch {
		case best.By == "", l.Site != "" && best.Site == "":
		case l.Site == "" && best.Site != "", !t.IsAncestor(l.By, best.By):
			continue
		}
		best = l
	}
	return best
}
