package scenario

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tiermesh/tiermesh/tiers"
)

// domainVerbs are the commands about the domain.
var domainVerbs = map[string]verb{
	"event":     {"event NAME [urgent] [type CODE] at SITE", parseEvent},
	"task":      {"task EVENT MOVE [to SITE] at SITE", parseTask},
	"unit":      {"unit NAME skill SKILL at SITE", parseUnit},
	"send":      {"send UNIT [force] to WHAT at SITE", parseSend},
	"recall":    {"recall UNIT at SITE", parseRecall},
	"ask":       {"ask NAME skill SKILL of SITE at SITE", parseAsk},
	"lend":      {"lend NAME UNIT… to SITE for DURATION at SITE", parseLend},
	"give-back": {"give-back NAME", parseGiveBack},
	"take-back": {"take-back NAME [force]", parseTakeBack},
	"rule":      {"rule CODE organ ORGAN [order NUMBER] [type CODE] [skill SKILL] [mode MODE] [to SITE] at SITE", parseRule},
	"duplicate": {"duplicate NAME of EVENT at SITE", parseDuplicate},
	"merge":     {"merge EVENT with EVENT at SITE", parseMerge},
	"order":     {"order NAME to SITES at SITE, or order NAME STEP at SITE", parseOrder},
	"mode":      {"mode emergency|normal for AREA at SITE", parseMode},
}

// parts reads words as keywords with their values, in the order of a usage line. A
// keyword that ends in ? may be left out; one that ends in ! may, and has no value.
func parts(words []string, keywords ...string) (map[string]string, error) {
	out := map[string]string{}
	for _, k := range keywords {
		name := strings.TrimRight(k, "?!")
		switch here := len(words) > 0 && words[0] == name; {
		case !here && name != k:
		case !here && len(words) == 0:
			return nil, errTooFew
		case !here:
			return nil, fmt.Errorf("%q: want %s", words[0], name)
		case strings.HasSuffix(k, "!"):
			out[name], words = name, words[1:]
		case len(words) < 2:
			return nil, errTooFew
		default:
			out[name], words = words[1], words[2:]
		}
	}
	return out, want(words, 0)
}

// headed takes a name off the front of words and reads the rest as parts.
func headed(words []string, keywords ...string) (name string, p map[string]string, err error) {
	if len(words) == 0 {
		return "", nil, errTooFew
	}
	if err := checkName(words[0]); err != nil {
		return "", nil, err
	}
	p, err = parts(words[1:], keywords...)
	return words[0], p, err
}

// nameBytesMax bounds a name.
const nameBytesMax = 32

// checkName checks a name that a script gives.
func checkName(s string) error {
	good := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-'
	}
	if len(s) == 0 || len(s) > nameBytesMax || strings.ContainsFunc(s, func(r rune) bool { return !good(r) }) {
		return fmt.Errorf("%.64q: want a name of 1 to %d letters, digits or '-'", s, nameBytesMax)
	}
	return nil
}

func parseEvent(words []string) (Command, error) {
	name, p, err := headed(words, "urgent!", "type?", "at")
	return Event{Name: name, Urgent: p["urgent"] != "", Type: p["type"], At: tiers.SiteID(p["at"])}, err
}

func parseTask(words []string) (Command, error) {
	if len(words) < 2 {
		return nil, errTooFew
	}
	i := slices.Index(Moves(), words[1])
	if i < 0 {
		return nil, fmt.Errorf("no move %q: want %s", words[1], strings.Join(Moves(), ", "))
	}
	keywords := []string{"at"}
	if moves[i].to {
		keywords = []string{"to", "at"}
	}
	p, err := parts(words[2:], keywords...)
	return Task{Event: words[0], Move: words[1], To: tiers.SiteID(p["to"]), At: tiers.SiteID(p["at"])}, err
}

func parseUnit(words []string) (Command, error) {
	name, p, err := headed(words, "skill", "at")
	return Unit{Name: name, Skill: p["skill"], At: tiers.SiteID(p["at"])}, err
}

func parseSend(words []string) (Command, error) {
	unit, p, err := headed(words, "force!", "to", "at")
	if err == nil {
		err = checkName(p["to"])
	}
	return Send{Unit: unit, Force: p["force"] != "", To: p["to"], At: tiers.SiteID(p["at"])}, err
}

func parseRecall(words []string) (Command, error) {
	unit, p, err := headed(words, "at")
	return Recall{Unit: unit, At: tiers.SiteID(p["at"])}, err
}

func parseAsk(words []string) (Command, error) {
	name, p, err := headed(words, "skill", "of", "at")
	if err == nil && p["of"] == p["at"] {
		err = fmt.Errorf("%s asks itself: want another site", p["at"])
	}
	return Ask{Name: name, Skill: p["skill"], Of: tiers.SiteID(p["of"]), At: tiers.SiteID(p["at"])}, err
}

func parseLend(words []string) (Command, error) {
	to := slices.Index(words, "to")
	if to < 2 {
		return nil, errors.New("want a name, units and to")
	}
	l := Lend{Name: words[0], Units: words[1:to]}
	for _, w := range words[:to] {
		if err := checkName(w); err != nil {
			return nil, err
		}
	}
	p, err := parts(words[to:], "to", "for", "at")
	if err != nil {
		return nil, err
	}
	l.To, l.At = tiers.SiteID(p["to"]), tiers.SiteID(p["at"])
	l.For, err = parseDuration(p["for"])
	return l, err
}

func parseGiveBack(words []string) (Command, error) {
	name, _, err := headed(words)
	return GiveBack{Name: name}, err
}

func parseTakeBack(words []string) (Command, error) {
	name, p, err := headed(words, "force!")
	return TakeBack{Name: name, Force: p["force"] != ""}, err
}

// orderDefault places a rule before those that publish writes.
const orderDefault = 1

func parseRule(words []string) (Command, error) {
	code, p, err := headed(words, "organ", "order?", "type?", "skill?", "mode?", "to?", "at")
	if err == nil && p["mode"] != "" {
		err = checkMode(p["mode"])
	}
	if err != nil {
		return nil, err
	}
	r := Rule{
		Code: code, Organ: p["organ"], Order: orderDefault, Type: p["type"], Skill: p["skill"], Mode: p["mode"], To: tiers.SiteID(p["to"]), At: tiers.SiteID(p["at"]),
	}
	if text, ok := p["order"]; ok {
		if r.Order, err = strconv.Atoi(text); err != nil || r.Order < 0 {
			return nil, fmt.Errorf("%q: want a number from 0", text)
		}
	}
	return r, nil
}

// refusable are the commands that a site can refuse.
const refusable = "task, unit, send, recall, ask, lend, give-back, take-back, rule, merge, order or mode"

func parseRefused(words []string) (Command, error) {
	if len(words) == 0 {
		return nil, errTooFew
	}
	v, ok := domainVerbs[words[0]]
	if !ok || words[0] == "event" || words[0] == "duplicate" {
		return nil, fmt.Errorf("%q cannot be refused: want %s", words[0], refusable)
	}
	c, err := v.parse(words[1:])
	if err != nil {
		return nil, fmt.Errorf("%w; usage: refused %s", err, v.usage)
	}
	return Refused{Do: c}, nil
}

func parseDuplicate(words []string) (Command, error) {
	name, p, err := headed(words, "of", "at")
	return Duplicate{Name: name, Of: p["of"], At: tiers.SiteID(p["at"])}, err
}

func parseMerge(words []string) (Command, error) {
	name, p, err := headed(words, "with", "at")
	if err == nil && p["with"] == name {
		err = fmt.Errorf("%s is one with itself: want another event", name)
	}
	return Merge{Event: name, With: p["with"], At: tiers.SiteID(p["at"])}, err
}

func parseOrder(words []string) (Command, error) {
	if len(words) < 2 {
		return nil, errTooFew
	}
	if err := checkName(words[0]); err != nil {
		return nil, err
	}
	if words[1] != "to" {
		if !slices.Contains(receipts, words[1]) {
			return nil, fmt.Errorf("no step %q: want to, or %s", words[1], strings.Join(receipts, ", "))
		}
		p, err := parts(words[2:], "at")
		return Receipt{Order: words[0], Step: words[1], At: tiers.SiteID(p["at"])}, err
	}
	to, rest, err := parseSites(words[2:])
	if err != nil {
		return nil, err
	}
	p, err := parts(rest, "at")
	return Order{Name: words[0], To: to, At: tiers.SiteID(p["at"])}, err
}

func parseMode(words []string) (Command, error) {
	if len(words) == 0 {
		return nil, errTooFew
	}
	if err := checkMode(words[0]); err != nil {
		return nil, err
	}
	p, err := parts(words[1:], "for", "at")
	return Mode{Mode: words[0], For: tiers.SiteID(p["for"]), At: tiers.SiteID(p["at"])}, err
}

func checkMode(s string) error {
	if s != ModeEmergency && s != ModeNormal {
		return fmt.Errorf("no mode %q: want %s or %s", s, ModeEmergency, ModeNormal)
	}
	return nil
}

// parseSteady reads "RATE/s at SITES [for DURATION]".
func parseSteady(words []string) (perSecond float64, at Sites, lasts time.Duration, err error) {
	if len(words) < 3 || words[1] != "at" {
		return 0, at, 0, errTooFew
	}
	perSecond, ok, err := parsePerSecond(words[0])
	if err != nil || !ok {
		return 0, at, 0, cmp.Or(err, fmt.Errorf("%q: want a rate such as 20/s", words[0]))
	}
	if at, words, err = parseSites(words[2:]); err != nil {
		return 0, at, 0, err
	}
	lasts, err = parseFor(words)
	return perSecond, at, lasts, err
}

func parseWork(words []string) (Command, error) {
	on := ""
	if len(words) > 2 && words[1] == "on" {
		if on = words[2]; !slices.Contains(WorkOn(), on) {
			return nil, fmt.Errorf("no work on %q: want %s", on, strings.Join(WorkOn(), ", "))
		}
		words = slices.Delete(slices.Clone(words), 1, 3)
	}
	n, at, lasts, err := parseSteady(words)
	return Work{PerSecond: n, On: on, At: at, For: lasts}, err
}

func parseAid(words []string) (Command, error) {
	n, at, lasts, err := parseSteady(words)
	return Aid{PerSecond: n, At: at, For: lasts}, err
}
