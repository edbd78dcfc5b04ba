package oracle

import (
	"time"

	"github.com/tiermesh/tiermesh/tiers"
)

// Proof is when a line that can be in use was first proven equal since the last
// heal.
type Proof struct {
	Child, Parent tiers.SiteID
	// At counts from the same moment as the heal; negative for never.
	At time.Duration
}

// Live checks that every line that can be in use was proven equal, at both ends,
// within a time after the last heal. The caller gives all those lines, and decides
// by what both ends hold (see [Equal]).
func Live(lines []Proof, healed, within time.Duration) Verdict {
	v := Verdict{Oracle: "live"}
	for _, l := range lines {
		v.Checked++
		switch {
		case l.At < healed:
			v.violate("%s and %s were never proven equal after the heal", l.Child, l.Parent)
		case l.At > healed+within:
			v.violate("%s and %s were proven equal %s after the heal: within %s was wanted", l.Child, l.Parent,
				(l.At - healed).Round(time.Millisecond), within)
		}
	}
	return v
}
