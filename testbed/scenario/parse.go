package scenario

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tiermesh/tiermesh/tiers"
)

// Bounds of a script.
const (
	scriptBytesMax = 1 << 20
	errorsMax      = 20
	limitDefault   = 10 * time.Minute
)

// parser reads one script.
type parser struct {
	script Script
	line   int
	about  []string
	headed bool // something but comments has come
	sites  map[tiers.SiteID]int
	nodes  []nodesOf
	errs   []error
}

// nodesOf is a "nodes" line until the sites are known.
type nodesOf struct {
	line, count int
	at          Sites
}

// Parse reads and checks a script. File is its name in errors, each of which is an
// [Error]; the first 20 are joined.
func Parse(file string, r io.Reader) (*Script, error) {
	b, err := io.ReadAll(io.LimitReader(r, scriptBytesMax+1))
	if err != nil {
		return nil, fmt.Errorf("read scenario %s: %w", file, err)
	}
	p := &parser{sites: map[tiers.SiteID]int{}}
	p.script.File, p.script.Seed, p.script.Limit = file, 1, limitDefault
	p.script.Federation.Nodes = map[tiers.SiteID]int{}
	switch {
	case len(b) > scriptBytesMax:
		p.fail("the script is larger than %d bytes", scriptBytesMax)
	case !utf8.Valid(b):
		p.fail("the script is not UTF-8 text")
	default:
		for text := range strings.Lines(string(b)) {
			p.line++
			p.read(strings.TrimRight(text, "\r\n"))
		}
		p.line = 0
		p.check()
	}
	p.script.About, p.script.Source = strings.Join(p.about, " "), string(b)
	if len(p.errs) > 0 {
		slices.SortStableFunc(p.errs, func(a, b error) int { return lineOf(a) - lineOf(b) })
		return nil, errors.Join(p.errs...)
	}
	return &p.script, nil
}

func lineOf(err error) int {
	var e *Error
	errors.As(err, &e)
	return e.Line
}

func (p *parser) fail(format string, args ...any) { p.failAt(p.line, format, args...) }

func (p *parser) failAt(line int, format string, args ...any) {
	if len(p.errs) < errorsMax {
		p.errs = append(p.errs, &Error{File: p.script.File, Line: line, Msg: fmt.Sprintf(format, args...)})
	}
}

// read takes one line.
func (p *parser) read(text string) {
	text, comment, commented := strings.Cut(text, "#")
	words := strings.Fields(text)
	if len(words) == 0 {
		if commented && !p.headed {
			p.about = append(p.about, strings.TrimSpace(comment))
		}
		return
	}
	p.headed = true
	head, isHead := heads[words[0]]
	verb, isVerb := verbOf(words[0])
	switch {
	case isHead && len(p.script.Steps) > 0:
		p.fail("%q builds the federation: put it before the first step, on line %d", words[0], p.script.Steps[0].Line)
	case isHead:
		if err := head.parse(p, words[1:]); err != nil {
			p.fail("%s: %s; usage: %s", words[0], err, head.usage)
		}
	case isVerb:
		c, err := verb.parse(words[1:])
		if err != nil {
			p.fail("%s: %s; usage: %s", words[0], err, verb.usage)
			return
		}
		p.script.Steps = append(p.script.Steps, Step{Line: p.line, Do: c})
	default:
		p.fail("unknown command %q: want %s", words[0], strings.Join(commands(), ", "))
	}
}

// verbOf returns a step's command.
func verbOf(word string) (verb, bool) {
	v, ok := verbs[word]
	if !ok {
		v, ok = domainVerbs[word]
	}
	return v, ok
}

// commands lists every first word, in order.
func commands() []string {
	var out []string
	for w := range heads {
		out = append(out, w)
	}
	for w := range verbs {
		out = append(out, w)
	}
	for w := range domainVerbs {
		out = append(out, w)
	}
	slices.Sort(out)
	return out
}

// head is a command that builds the federation.
type head struct {
	usage string
	parse func(p *parser, words []string) error
}

var heads = map[string]head{
	"seed":      {"seed NUMBER", (*parser).seed},
	"limit":     {"limit DURATION", (*parser).limit},
	"site":      {"site CODE city|district|township [NAME] [under PARENT]", (*parser).site},
	"chongqing": {"chongqing [districts NUMBER|CODE…] [townships NUMBER]", (*parser).chongqing},
	"nodes":     {"nodes 1|3|5 at SITES", (*parser).nodesAt},
	"line":      {"line [RATE] [DELAY] [loss=N%] [mtu=N]", (*parser).baseLine},
}

var (
	errTooFew  = errors.New("too few words")
	errTooMany = errors.New("too many words")
)

// want checks the number of words.
func want(words []string, n int) error {
	switch {
	case len(words) < n:
		return errTooFew
	case len(words) > n:
		return errTooMany
	}
	return nil
}

func (p *parser) seed(words []string) (err error) {
	if err := want(words, 1); err != nil {
		return err
	}
	if p.script.Seed, err = strconv.ParseUint(words[0], 10, 64); err != nil {
		return fmt.Errorf("%q: want a whole number", words[0])
	}
	return nil
}

func (p *parser) limit(words []string) (err error) {
	if err := want(words, 1); err != nil {
		return err
	}
	p.script.Limit, err = parseDuration(words[0])
	return err
}

func (p *parser) baseLine(words []string) (err error) {
	p.script.Federation.Line, err = parseLine(words)
	return err
}

func (p *parser) nodesAt(words []string) error {
	if len(words) < 3 || words[1] != "at" {
		return errTooFew
	}
	n, err := strconv.Atoi(words[0])
	if err != nil || n != 1 && n != 3 && n != 5 {
		return fmt.Errorf("%q: want 1, 3 or 5 nodes", words[0])
	}
	at, rest, err := parseSites(words[2:])
	if err == nil {
		err = want(rest, 0)
	}
	p.nodes = append(p.nodes, nodesOf{p.line, n, at})
	return err
}

// site adds one site.
func (p *parser) site(words []string) error {
	if len(words) < 2 {
		return errTooFew
	}
	row := tiers.Site{ID: tiers.SiteID(words[0]), Name: words[0]}
	if err := row.Tier.UnmarshalText([]byte(words[1])); err != nil {
		return fmt.Errorf("%q: want city, district or township", words[1])
	}
	rest := words[2:]
	if i := slices.Index(rest, "under"); i >= 0 {
		if err := want(rest[i+1:], 1); err != nil {
			return err
		}
		row.Parent, rest = tiers.SiteID(rest[i+1]), rest[:i]
	}
	if len(rest) > 0 {
		row.Name = strings.Join(rest, " ")
	}
	return p.add(row)
}

// add takes a site in; its parent is checked when all are known.
func (p *parser) add(row tiers.Site) error {
	if err := row.ID.Validate(); err != nil {
		return fmt.Errorf("%q: want a code of letters, digits or '-'", string(row.ID))
	}
	if slices.Contains([]string{"all", "city", "districts", "townships"}, string(row.ID)) {
		return fmt.Errorf("%q means a group of sites: want a code", string(row.ID))
	}
	if before, ok := p.sites[row.ID]; ok {
		return fmt.Errorf("site %s is built on line %d already", row.ID, before)
	}
	p.sites[row.ID] = p.line
	p.script.Federation.Sites = append(p.script.Federation.Sites, row)
	return nil
}
