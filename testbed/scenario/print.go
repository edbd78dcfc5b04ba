package scenario

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// String writes the script, without comments, so that it parses to the same.
func (s *Script) String() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("seed %d", s.Seed)
	line("limit %s", formatDuration(s.Limit))
	for _, r := range s.Federation.Sites {
		under := ""
		if r.Parent != "" {
			under = " under " + string(r.Parent)
		}
		line("site %s %s %s%s", r.ID, r.Tier, r.Name, under)
	}
	for _, r := range s.Federation.Sites {
		if n := s.Federation.NodesOf(r.ID); n > 1 {
			line("nodes %d at %s", n, r.ID)
		}
	}
	if s.Federation.Line != (Line{}) {
		line("line %s", s.Federation.Line)
	}
	for _, st := range s.Steps {
		line("%s", st.Do)
	}
	return b.String()
}

// String writes publish.
func (Publish) String() string { return "publish" }

// String writes hush.
func (Hush) String() string { return "hush" }

// String writes reorganise.
func (Reorganise) String() string { return "reorganise" }

// String writes the report line.
func (r Report) String() string {
	s := "report "
	if r.PerSecond > 0 {
		s += formatPerSecond(r.PerSecond)
	} else {
		s += strconv.Itoa(r.Count)
	}
	if r.Urgent {
		s += " urgent"
	}
	s += " from " + r.From + " at " + r.At.String()
	if r.For > 0 {
		s += " for " + formatDuration(r.For)
	}
	return s
}

// String writes the claim line.
func (c Claim) String() string {
	return steady("claim", c.PerSecond, "", c.At, c.For)
}

// String writes the cut line.
func (c Cut) String() string {
	if c.OneWay {
		return fmt.Sprintf("cut %s->%s", c.A, c.B)
	}
	return fmt.Sprintf("cut %s %s", c.A, c.B)
}

// String writes the heal line.
func (h Heal) String() string {
	if h.A == "" {
		return "heal"
	}
	return fmt.Sprintf("heal %s %s", h.A, h.B)
}

// String writes the isolate line.
func (i Isolate) String() string { return "isolate " + i.At.String() }

// String writes the rejoin line.
func (r Rejoin) String() string { return "rejoin " + r.At.String() }

// String writes the flap line.
func (f Flap) String() string {
	return fmt.Sprintf("flap %s %s every %s down %s for %s", f.A, f.B, formatDuration(f.Every), formatDuration(f.Down), formatDuration(f.For))
}

// String writes the slow line.
func (s Slow) String() string { return fmt.Sprintf("slow %s %s %s", s.A, s.B, s.Line) }

// String writes the act's line.
func (a Act) String() string {
	switch {
	case a.Kind == ActClock && a.By < 0:
		return fmt.Sprintf("clock %s -%s", a.Site, formatDuration(-a.By))
	case a.Kind == ActClock:
		return fmt.Sprintf("clock %s +%s", a.Site, formatDuration(a.By))
	case a.Node > 0:
		return fmt.Sprintf("%s %d of %s", a.Kind, a.Node, a.Site)
	default:
		return fmt.Sprintf("%s %s", a.Kind, a.Site)
	}
}

// String writes the reparent line.
func (r Reparent) String() string { return fmt.Sprintf("reparent %s under %s", r.Site, r.Under) }

// String writes the outages line.
func (o Outages) String() string {
	return fmt.Sprintf("outages %s at %s %s within %s", o.Profile, o.At, formatDuration(o.Of), formatDuration(o.Within))
}

// String writes the after line.
func (a After) String() string { return "after " + formatDuration(a.For) }

// String writes the until line.
func (u Until) String() string {
	what := string(u.What)
	if u.What == Shown {
		what = strings.TrimPrefix(u.Seen.String(), "expect ")
	}
	if u.A != "" {
		what = fmt.Sprintf("%s %s %s", u.A, u.B, u.What)
	}
	return fmt.Sprintf("until %s within %s", what, formatDuration(u.Within))
}

// Takes returns how long the script lasts at least and at most: what it waits
// for, and what it may wait for.
func (s *Script) Takes() (least, most time.Duration) {
	for _, st := range s.Steps {
		switch c := st.Do.(type) {
		case After:
			least += c.For
		case Until:
			most += c.Within
		}
	}
	return least, least + most
}
