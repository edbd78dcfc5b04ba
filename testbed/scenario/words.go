package scenario

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tiermesh/tiermesh/tiers"
)

const day = 24 * time.Hour

// parseDuration reads a positive duration: what [time.ParseDuration] reads, and
// whole or broken days such as 72d.
func parseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(s)
	if days, ok := strings.CutSuffix(s, "d"); ok {
		var n float64
		n, err = strconv.ParseFloat(days, 64)
		if n > durationMax.Hours()/24 {
			return 0, fmt.Errorf("%q: want at most %s", s, formatDuration(durationMax))
		}
		d = time.Duration(n * float64(day))
	}
	if err != nil || d <= 0 || d > durationMax {
		return 0, fmt.Errorf("%q: want a duration such as 500ms, 30s, 5m, 2h or 72d", s)
	}
	return d, nil
}

// durationMax bounds every duration in a script.
const durationMax = 366 * day

// formatDuration writes what parseDuration reads.
func formatDuration(d time.Duration) string {
	if d >= day && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// rateUnits are in bits per second, the largest first.
var rateUnits = []struct {
	name string
	bits int64
}{{"gbit", 1e9}, {"mbit", 1e6}, {"kbit", 1e3}, {"bit", 1}}

// parseRate reads a rate such as 500kbit.
func parseRate(s string) (int64, bool) {
	for _, u := range rateUnits {
		if n, ok := strings.CutSuffix(s, u.name); ok {
			v, err := strconv.ParseInt(n, 10, 32)
			return v * u.bits, err == nil && v > 0
		}
	}
	return 0, false
}

func formatRate(bits int64) string {
	for _, u := range rateUnits {
		if bits%u.bits == 0 {
			return strconv.FormatInt(bits/u.bits, 10) + u.name
		}
	}
	return ""
}

// parseLine reads what a line is: a rate, a delay, a loss and an MTU, in any order.
func parseLine(words []string) (l Line, err error) {
	if len(words) == 0 {
		return l, fmt.Errorf("want a rate, a delay, a loss or an MTU, such as: 500kbit 300ms loss=5%% mtu=1280")
	}
	for _, w := range words {
		if bits, ok := parseRate(w); ok {
			l.BitsPerSecond = bits
		} else if share, ok := strings.CutPrefix(w, "loss="); ok {
			pct, ok := strings.CutSuffix(share, "%")
			v, err := strconv.ParseFloat(pct, 64)
			if err != nil || !ok || !(v >= 0 && v < 100) {
				return l, fmt.Errorf("%q: want a loss of 0%% to below 100%%, such as loss=5%%", w)
			}
			l.Loss = v / 100
		} else if size, ok := strings.CutPrefix(w, "mtu="); ok {
			if l.MTU, err = strconv.Atoi(size); err != nil || l.MTU < mtuMin || l.MTU > mtuMax {
				return l, fmt.Errorf("%q: want an MTU of %d to %d bytes, such as mtu=1280", w, mtuMin, mtuMax)
			}
		} else if l.Delay, err = parseDuration(w); err != nil || l.Delay > delayMax {
			return l, fmt.Errorf("%q: want a rate (500kbit), a delay of at most %s (300ms), a loss (loss=5%%) or an MTU (mtu=1280)", w, formatDuration(delayMax))
		}
	}
	return l, nil
}

// delayMax bounds the delay of a line: beyond it no handshake succeeds.
const delayMax = 2 * time.Second

// The MTU of a line: what IPv4 asks of every path at least (RFC 791), and what the
// interfaces of all worlds have.
const (
	mtuMin = 68
	mtuMax = 1500
)

// String writes what parseLine reads.
func (l Line) String() string {
	var parts []string
	if l.BitsPerSecond > 0 {
		parts = append(parts, formatRate(l.BitsPerSecond))
	}
	if l.Delay > 0 {
		parts = append(parts, formatDuration(l.Delay))
	}
	if l.MTU > 0 {
		parts = append(parts, "mtu="+strconv.Itoa(l.MTU))
	}
	if l.Loss > 0 || len(parts) == 0 {
		parts = append(parts, "loss="+strconv.FormatFloat(l.Loss*100, 'g', 10, 64)+"%")
	}
	return strings.Join(parts, " ")
}

// tierWords are the selectors that mean a whole tier.
var tierWords = []struct {
	word string
	tier tiers.Tier
}{{"city", tiers.TierCity}, {"districts", tiers.TierDistrict}, {"townships", tiers.TierTownship}}

// parseSites reads a selector off the front of words and returns the rest.
func parseSites(words []string) (Sites, []string, error) {
	if len(words) == 0 {
		return Sites{}, nil, fmt.Errorf("want sites: a code, all, city, districts, townships, or townships of a district's code")
	}
	first, rest := words[0], words[1:]
	if first == "all" {
		return Sites{}, rest, nil
	}
	for _, t := range tierWords {
		if first != t.word {
			continue
		}
		if len(rest) >= 2 && rest[0] == "of" {
			return Sites{ID: tiers.SiteID(rest[1]), Tier: t.tier}, rest[2:], nil
		}
		return Sites{Tier: t.tier}, rest, nil
	}
	return Sites{ID: tiers.SiteID(first)}, rest, nil
}

// String writes what parseSites reads.
func (s Sites) String() string {
	for _, t := range tierWords {
		if s.Tier == t.tier {
			if s.ID != "" {
				return t.word + " of " + string(s.ID)
			}
			return t.word
		}
	}
	if s.ID == "" {
		return "all"
	}
	return string(s.ID)
}

// Of returns the sites that are meant, in the order of rows.
func (s Sites) Of(rows []tiers.Site) []tiers.SiteID {
	var out []tiers.SiteID
	for _, r := range rows {
		if r.Retired {
			continue
		}
		switch {
		case s.Tier == 0 && (s.ID == "" || s.ID == r.ID):
		case s.Tier != 0 && s.Tier == r.Tier && (s.ID == "" || s.ID == r.Parent):
		default:
			continue
		}
		out = append(out, r.ID)
	}
	return out
}
