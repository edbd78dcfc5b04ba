package scenario

import (
	"strconv"
	"strings"
	"time"
)

// line joins the words of a line that are not empty.
func line(words ...string) string {
	kept := words[:0:0]
	for _, w := range words {
		if w != "" {
			kept = append(kept, w)
		}
	}
	return strings.Join(kept, " ")
}

// with is a keyword with its value, or nothing.
func with[T ~string](keyword string, value T) string {
	if value == "" {
		return ""
	}
	return keyword + " " + string(value)
}

// flag is a word, if it is meant.
func flag(word string, on bool) string {
	if !on {
		return ""
	}
	return word
}

// String writes the event line.
func (e Event) String() string {
	return line("event", e.Name, flag("urgent", e.Urgent), with("type", e.Type), with("at", e.At))
}

// String writes the task line.
func (t Task) String() string {
	return line("task", t.Event, t.Move, with("to", t.To), with("at", t.At))
}

// String writes the work line.
func (w Work) String() string { return steady("work", w.PerSecond, w.On, w.At, w.For) }

// String writes the aid line.
func (a Aid) String() string { return steady("aid", a.PerSecond, "", a.At, a.For) }

// String writes the unit line.
func (u Unit) String() string { return line("unit", u.Name, with("skill", u.Skill), with("at", u.At)) }

// String writes the send line.
func (s Send) String() string {
	return line("send", s.Unit, flag("force", s.Force), with("to", s.To), with("at", s.At))
}

// String writes the recall line.
func (r Recall) String() string { return line("recall", r.Unit, with("at", r.At)) }

// String writes the ask line.
func (a Ask) String() string {
	return line("ask", a.Name, with("skill", a.Skill), with("of", a.Of), with("at", a.At))
}

// String writes the lend line.
func (l Lend) String() string {
	return line("lend", l.Name, strings.Join(l.Units, " "), with("to", l.To), with("for", formatDuration(l.For)), with("at", l.At))
}

// String writes the give-back line.
func (g GiveBack) String() string { return line("give-back", g.Name) }

// String writes the take-back line.
func (t TakeBack) String() string { return line("take-back", t.Name, flag("force", t.Force)) }

// String writes the refused line.
func (r Refused) String() string { return "refused " + r.Do.String() }

// String writes the rule line.
func (r Rule) String() string {
	return line("rule", r.Code, with("organ", r.Organ), "order "+strconv.Itoa(r.Order), with("type", r.Type), with("skill", r.Skill), with("mode", r.Mode), with("to", r.To), with("at", r.At))
}

// String writes the duplicate line.
func (d Duplicate) String() string {
	return line("duplicate", d.Name, with("of", d.Of), with("at", d.At))
}

// String writes the merge line.
func (m Merge) String() string { return line("merge", m.Event, with("with", m.With), with("at", m.At)) }

// String writes the order line.
func (o Order) String() string {
	return line("order", o.Name, with("to", o.To.String()), with("at", o.At))
}

// String writes the line of a step of an order.
func (r Receipt) String() string { return line("order", r.Order, r.Step, with("at", r.At)) }

// String writes the mode line.
func (m Mode) String() string { return line("mode", m.Mode, with("for", m.For), with("at", m.At)) }

// steady writes a load that goes on.
func steady(verb string, perSecond float64, on string, at Sites, lasts time.Duration) string {
	s := line(verb, formatPerSecond(perSecond), with("on", on), "at", at.String())
	if lasts > 0 {
		s += " for " + formatDuration(lasts)
	}
	return s
}
