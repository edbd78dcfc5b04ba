package scenario

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tiermesh/tiermesh/tiers"
)

// verb is a command of a step.
type verb struct {
	usage string
	parse func(words []string) (Command, error)
}

var verbs = map[string]verb{
	"publish":    {"publish", bare(Publish{})},
	"report":     {"report COUNT|RATE/s|RATE/m|RATE/h [urgent] [from nyc311|made] at SITES [for DURATION]", parseReport},
	"claim":      {"claim RATE/s at SITES [for DURATION]", parseClaim},
	"hush":       {"hush", bare(Hush{})},
	"cut":        {"cut A B, or one way: cut A->B", parseCut},
	"heal":       {"heal [A B]", parseHeal},
	"isolate":    {"isolate SITES", parseIsolate},
	"rejoin":     {"rejoin SITES", parseRejoin},
	"flap":       {"flap A B every DURATION down DURATION for DURATION", parseFlap},
	"slow":       {"slow A B [RATE] [DELAY] [loss=N%] [mtu=N]", parseSlow},
	"clock":      {"clock SITE +DURATION|-DURATION", parseClock},
	"reparent":   {"reparent SITE under PARENT", parseReparent},
	"reorganise": {"reorganise", bare(Reorganise{})},
	"outages":    {"outages power|flood at SITES DURATION within DURATION", parseOutages},
	"after":      {"after DURATION", parseAfter},
	"until":      {"until converged|acknowledged|A B linked|MEASURE of NAME [to SITES] [at SITES] VALUE within DURATION", parseUntil},
	"expect":     {"expect MEASURE [of NAME [to SITES] [at SITES]] [<|<=|=|>=|>] VALUE, or expect linked|unlinked A B", parseExpect},
	"work":       {"work RATE/s [on orders|duplicates|mode] at SITES [for DURATION]", parseWork},
	"aid":        {"aid RATE/s at SITES [for DURATION]", parseAid},
	"refused":    {"refused COMMAND, of " + refusable, parseRefused},

	string(ActKill): act(ActKill), string(ActStart): act(ActStart), string(ActPause): act(ActPause),
	string(ActResume): act(ActResume), string(ActDiskFull): act(ActDiskFull), string(ActFsyncError): act(ActFsyncError),
	string(ActBitrot): act(ActBitrot), string(ActBackup): act(ActBackup), string(ActRestoreBackup): act(ActRestoreBackup),
	string(ActClone): act(ActClone), string(ActUpgrade): act(ActUpgrade),
}

// ActKinds lists every act, in order.
func ActKinds() []ActKind {
	return []ActKind{
		ActKill, ActStart, ActPause, ActResume, ActDiskFull, ActFsyncError, ActBitrot, ActClock, ActBackup,
		ActRestoreBackup, ActClone, ActUpgrade,
	}
}

func bare(c Command) func([]string) (Command, error) {
	return func(words []string) (Command, error) { return c, want(words, 0) }
}

// act parses what is done to a site, or to one node of it.
func act(kind ActKind) verb {
	return verb{fmt.Sprintf("%s SITE, or one node: %s 2 of SITE", kind, kind), func(words []string) (Command, error) {
		a := Act{Kind: kind}
		if len(words) == 3 && words[1] == "of" {
			n, err := strconv.ParseUint(words[0], 10, 8)
			if err != nil || n == 0 {
				return nil, fmt.Errorf("%q: want a node's number, from 1", words[0])
			}
			a.Node, words = uint32(n), words[2:]
		}
		if err := want(words, 1); err != nil {
			return nil, err
		}
		a.Site = tiers.SiteID(words[0])
		return a, nil
	}}
}

func parseReport(words []string) (Command, error) {
	r := Report{From: SourceNYC311}
	if len(words) < 3 {
		return nil, errTooFew
	}
	var err error
	if v, ok, err := parsePerSecond(words[0]); err != nil {
		return nil, err
	} else if ok {
		r.PerSecond = v
	} else if n, err := strconv.Atoi(words[0]); err != nil || n < 1 || n > countMax {
		return nil, fmt.Errorf("%q: want a number up to %d, or a rate such as 20/s", words[0], countMax)
	} else {
		r.Count = n
	}
	words = words[1:]
	if words[0] == "urgent" {
		r.Urgent, words = true, words[1:]
	}
	if len(words) > 1 && words[0] == "from" {
		if r.From = words[1]; r.From != SourceNYC311 && r.From != SourceMade {
			return nil, fmt.Errorf("no source %q: want %s or %s", r.From, SourceNYC311, SourceMade)
		}
		words = words[2:]
	}
	if len(words) == 0 || words[0] != "at" {
		return nil, errors.New("want at and sites")
	}
	if r.At, words, err = parseSites(words[1:]); err != nil {
		return nil, err
	}
	if r.PerSecond > 0 {
		r.For, err = parseFor(words)
		return r, err
	}
	return r, want(words, 0)
}

func parseClaim(words []string) (Command, error) {
	n, at, lasts, err := parseSteady(words)
	return Claim{PerSecond: n, At: at, For: lasts}, err
}

// perUnits are the units of a rate of reports, in seconds.
var perUnits = []struct {
	unit    string
	seconds float64
}{{"/s", 1}, {"/m", 60}, {"/h", 3600}}

// parsePerSecond reads a rate such as 2.5/s, or 3/m; ok says that it is meant to be
// one.
func parsePerSecond(s string) (v float64, ok bool, err error) {
	for _, u := range perUnits {
		per, is := strings.CutSuffix(s, u.unit)
		if !is {
			continue
		}
		v, err := strconv.ParseFloat(per, 64)
		if v /= u.seconds; err != nil || !(v > 0 && v <= perSecondMax) {
			return 0, true, fmt.Errorf("%q: want a rate up to %d/s, such as 20/s, 3/m or 10/h", s, perSecondMax)
		}
		return v, true, nil
	}
	return 0, false, nil
}

// formatPerSecond writes what parsePerSecond reads.
func formatPerSecond(v float64) string {
	for _, u := range perUnits {
		if scaled := v * u.seconds; scaled >= 1 || u.unit == "/h" {
			return strconv.FormatFloat(scaled, 'g', 12, 64) + u.unit
		}
	}
	return ""
}

// parseFor reads "for DURATION", or nothing.
func parseFor(words []string) (time.Duration, error) {
	if len(words) == 0 {
		return 0, nil
	}
	if err := want(words, 2); err != nil {
		return 0, err
	}
	if words[0] != "for" {
		return 0, fmt.Errorf("%q: want for and a duration", words[0])
	}
	return parseDuration(words[1])
}

// Bounds of what is reported.
const (
	perSecondMax = 100_000
	countMax     = 10_000_000
)

// pair reads two different sites.
func pair(words []string) (a, b tiers.SiteID, err error) {
	if err := want(words, 2); err != nil {
		return "", "", err
	}
	if words[0] == words[1] {
		return "", "", fmt.Errorf("%s and %s are the same site: want two", words[0], words[1])
	}
	return tiers.SiteID(words[0]), tiers.SiteID(words[1]), nil
}

func parseCut(words []string) (Command, error) {
	oneWay := false
	if len(words) == 1 {
		from, to, ok := strings.Cut(words[0], "->")
		if !ok {
			return nil, errTooFew
		}
		words, oneWay = []string{from, to}, true
	}
	a, b, err := pair(words)
	return Cut{A: a, B: b, OneWay: oneWay}, err
}

func parseHeal(words []string) (Command, error) {
	if len(words) == 0 {
		return Heal{}, nil
	}
	a, b, err := pair(words)
	return Heal{A: a, B: b}, err
}

func parseIsolate(words []string) (Command, error) {
	at, rest, err := parseSites(words)
	if err == nil {
		err = want(rest, 0)
	}
	return Isolate{At: at}, err
}

func parseRejoin(words []string) (Command, error) {
	at, rest, err := parseSites(words)
	if err == nil {
		err = want(rest, 0)
	}
	return Rejoin{At: at}, err
}

func parseFlap(words []string) (Command, error) {
	if err := want(words, 8); err != nil {
		return nil, err
	}
	if words[2] != "every" || words[4] != "down" || words[6] != "for" {
		return nil, errors.New("want every, down and for")
	}
	a, b, err := pair(words[:2])
	f := Flap{A: a, B: b}
	var errs [3]error
	f.Every, errs[0] = parseDuration(words[3])
	f.Down, errs[1] = parseDuration(words[5])
	f.For, errs[2] = parseDuration(words[7])
	if err := errors.Join(err, errors.Join(errs[:]...)); err != nil {
		return nil, err
	}
	if f.Down >= f.Every {
		return nil, fmt.Errorf("down for %s of every %s: want less", formatDuration(f.Down), formatDuration(f.Every))
	}
	return f, nil
}

func parseSlow(words []string) (Command, error) {
	if len(words) < 3 {
		return nil, errTooFew
	}
	a, b, err := pair(words[:2])
	if err != nil {
		return nil, err
	}
	l, err := parseLine(words[2:])
	return Slow{A: a, B: b, Line: l}, err
}

func parseClock(words []string) (Command, error) {
	if err := want(words, 2); err != nil {
		return nil, err
	}
	by, ahead := strings.CutPrefix(words[1], "+")
	by, behind := strings.CutPrefix(by, "-")
	if ahead == behind {
		return nil, fmt.Errorf("%q: want a duration with + or -, such as +1h", words[1])
	}
	d, err := parseDuration(by)
	if behind {
		d = -d
	}
	return Act{Kind: ActClock, Site: tiers.SiteID(words[0]), By: d}, err
}

func parseReparent(words []string) (Command, error) {
	if err := want(words, 3); err != nil {
		return nil, err
	}
	if words[1] != "under" {
		return nil, errors.New("want under")
	}
	return Reparent{Site: tiers.SiteID(words[0]), Under: tiers.SiteID(words[2])}, nil
}

func parseOutages(words []string) (Command, error) {
	if len(words) < 5 {
		return nil, errTooFew
	}
	if words[1] != "at" || !slices.Contains([]string{"power", "flood"}, words[0]) {
		return nil, fmt.Errorf("%q: want power or flood, and at", words[0])
	}
	o := Outages{Profile: words[0]}
	var err error
	if o.At, words, err = parseSites(words[2:]); err != nil {
		return nil, err
	}
	if err := want(words, 3); err != nil {
		return nil, err
	}
	if words[1] != "within" {
		return nil, errors.New("want within")
	}
	var also error
	o.Of, err = parseDuration(words[0])
	o.Within, also = parseDuration(words[2])
	return o, errors.Join(err, also)
}

func parseAfter(words []string) (Command, error) {
	if err := want(words, 1); err != nil {
		return nil, err
	}
	d, err := parseDuration(words[0])
	return After{For: d}, err
}

func parseUntil(words []string) (Command, error) {
	u := Until{}
	if len(words) == 5 && words[2] == string(Linked) {
		a, b, err := pair(words[:2])
		if err != nil {
			return nil, err
		}
		u.A, u.B, words = a, b, words[2:]
	} else if len(words) > 0 && words[0] == string(Linked) {
		return nil, errors.New("want the two sites before linked")
	}
	if slices.Contains(words, "of") {
		return parseUntilShown(words)
	}
	if err := want(words, 3); err != nil {
		return nil, err
	}
	u.What = Condition(words[0])
	if !slices.Contains([]Condition{Converged, Acknowledged, Linked}, u.What) {
		return nil, fmt.Errorf("no condition %q: want converged, acknowledged, A B linked or a measure of something named", words[0])
	}
	if words[1] != "within" {
		return nil, errors.New("want within")
	}
	var err error
	u.Within, err = parseDuration(words[2])
	return u, err
}

// parseUntilShown reads what is expected, and by when.
func parseUntilShown(words []string) (Command, error) {
	n := len(words) - 2
	if n < 0 || words[n] != "within" {
		return nil, errors.New("want within and a duration at the end")
	}
	c, err := parseExpect(words[:n])
	if err != nil {
		return nil, err
	}
	u := Until{What: Shown}
	u.Seen, _ = c.(Expect)
	u.Within, err = parseDuration(words[n+1])
	return u, err
}
