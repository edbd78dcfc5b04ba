package scenario

import (
	"slices"
	"strings"

	"github.com/tiermesh/tiermesh/tiers"
)

// domain checks a command about the domain: its sites are built, the names that it
// uses were given before, and those that it gives were not. One that is refused
// gives none.
func (c *checker) domain(line int, do Command, gives bool) {
	switch do := do.(type) {
	case Work:
		c.known(line, do.At)
	case Aid:
		c.known(line, do.At)
	case Event:
		c.is(line, do.At)
		c.call(line, do.Name, namedEvent, gives)
	case Task:
		c.is(line, do.At)
		if do.To != "" {
			c.is(line, do.To)
		}
		c.called(line, do.Event, namedEvent)
	case Unit:
		c.is(line, do.At)
		c.call(line, do.Name, namedUnit, gives)
		c.homes[do.Name] = do.At
	case Send:
		c.is(line, do.At)
		c.called(line, do.Unit, namedUnit)
	case Recall:
		c.is(line, do.At)
		c.called(line, do.Unit, namedUnit)
	case Ask:
		c.is(line, do.Of, do.At)
		c.call(line, do.Name, namedRequest, gives)
	case Lend:
		c.lend(line, do, gives)
	case GiveBack:
		c.called(line, do.Name, namedRequest, namedPool)
	case TakeBack:
		c.called(line, do.Name, namedPool)
	case Rule:
		c.is(line, do.At)
		if do.To != "" {
			c.is(line, do.To)
		}
	default:
		c.command(line, do, gives)
	}
}

// command checks what is said about duplicates, orders and the mode.
func (c *checker) command(line int, do Command, gives bool) {
	switch do := do.(type) {
	case Duplicate:
		c.is(line, do.At)
		c.called(line, do.Of, namedEvent)
		c.call(line, do.Name, namedEvent, gives)
	case Merge:
		c.is(line, do.At)
		c.called(line, do.Event, namedEvent)
		c.called(line, do.With, namedEvent)
	case Order:
		c.is(line, do.At)
		c.known(line, do.To)
		c.call(line, do.Name, namedOrder, gives)
	case Receipt:
		c.is(line, do.At)
		c.called(line, do.Order, namedOrder)
	case Mode:
		c.is(line, do.For, do.At)
	}
}

// lend checks that a pool's units are those of who lends them, to a site below.
func (c *checker) lend(line int, l Lend, gives bool) {
	c.call(line, l.Name, namedPool, gives)
	for i, u := range l.Units {
		switch {
		case slices.Contains(l.Units[:i], u):
			c.failAt(line, "unit %s twice: want each once", u)
		case c.called(line, u, namedUnit) && c.homes[u] != l.At:
			c.failAt(line, "unit %s is of %s: want units of %s", u, c.homes[u], l.At)
		}
	}
	if !c.is(line, l.To, l.At) {
		return
	}
	at := l.To
	for range tiers.TierTownship { // no site has more above it
		if at = c.parent[at]; at == l.At {
			return
		}
	}
	c.failAt(line, "%s is not above %s: want to lend to a site below", l.At, l.To)
}

// call gives a name.
func (c *checker) call(line int, name string, to named, gives bool) {
	if was, taken := c.names[name]; taken {
		c.failAt(line, "%q is the name of the %s before: want another", name, was)
	}
	if _, site := c.sites[tiers.SiteID(name)]; site || slices.Contains([]string{Nobody, Absent}, name) {
		c.failAt(line, "%s means something else: want another name", name)
	}
	if gives {
		c.names[name] = to
	}
}

// called complains about a name that nothing of a kind was given before.
func (c *checker) called(line int, name string, kinds ...named) bool {
	if _, site := c.sites[tiers.SiteID(name)]; slices.Contains(kinds, c.names[name]) || site && slices.Contains(kinds, namedSite) {
		return true
	}
	var words, there []string
	for _, k := range kinds {
		words = append(words, string(k))
	}
	for n, k := range c.names {
		if slices.Contains(kinds, k) {
			there = append(there, n)
		}
	}
	slices.Sort(there)
	have := "there is none before this line"
	if len(there) > 0 {
		have = "want " + strings.Join(there[:min(len(there), 8)], ", ")
	}
	c.failAt(line, "no %s %q: %s", strings.Join(words, " or "), name, have)
	return false
}
