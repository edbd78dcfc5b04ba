package report

import (
	"cmp"
	"fmt"
	"html/template"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// view is what the page's template is given.
type view struct {
	*Data
	Style   template.CSS
	Name    string
	Good    bool
	Wrong   []string
	Tiles   []tile
	Figures []figure
	// Slowest are the sites that converged last, Sitewide how many there are.
	Slowest  []slow
	Sitewide int
	Kinds    []kind
	// Listed are the first faults, and Unlisted how many more there are.
	Listed   []Fault
	Unlisted int
	Lines    []scriptLine
}

// tile is one figure of the head.
type tile struct{ Name, Value, Note string }

// slow is a site of the list of the slowest.
type slow struct {
	Site
	Never bool
	// Share is its part of the slowest one's time, in percent.
	Share float64
}

// LastedS is for how long a fault was on; 0 when it had no length, or lasted to the
// end.
func (f Fault) LastedS() float64 { return max(f.ToS-f.FromS, 0) }

// kind sums up the faults of one kind.
type kind struct {
	What     string
	Count    int
	LongestS float64
}

// scriptLine is one line of the script.
type scriptLine struct {
	Number int
	Text   string
	Mark   string // "bad" where an expectation did not hold
}

const (
	slowestMax  = 20
	faultsShown = 200
)

// view derives what the page shows.
func (d *Data) view() view {
	v := view{
		Data: d, Style: template.CSS(pageStyle), Name: filepath.Base(d.File), Good: d.Holds(), Wrong: d.wrong(), Tiles: d.tiles(), //nolint:gosec // our own file
		Figures: []figure{d.timeline(), d.backlog(), d.links(), d.bytes(), d.convergence()},
		Slowest: d.slowest(), Kinds: d.kinds(), Listed: d.Faults, Lines: d.lines(),
	}
	for _, s := range d.Sites {
		if s.Parent != "" {
			v.Sitewide++
		}
	}
	if len(v.Listed) > faultsShown {
		v.Unlisted = len(v.Listed) - faultsShown
		v.Listed = v.Listed[:faultsShown]
	}
	return v
}

// wrong says in a few lines why a run does not hold.
func (d *Data) wrong() (out []string) {
	if d.Failure != "" {
		out = append(out, "The run ended early: "+d.Failure)
	}
	for _, e := range d.Expected {
		if e.Failed() {
			out = append(out, fmt.Sprintf("Line %d: %s, got %s", e.Line, e.Text, e.Got))
		}
	}
	for _, v := range d.Verdicts {
		if !v.Holds() {
			text := fmt.Sprintf("Oracle %q: %s of %s", v.Oracle, count(v.Violations), count(v.Checked))
			if len(v.Examples) > 0 {
				text += ", as " + v.Examples[0]
			}
			out = append(out, text)
		}
	}
	return out
}

// tiles are the figures of the head.
func (d *Data) tiles() []tile {
	c := d.Count
	ratio := "nothing was needed"
	if c.NeededBytes > 0 {
		ratio = fmt.Sprintf("%s needed, ×%.2f", size(float64(c.NeededBytes)), float64(c.WireBytes)/float64(c.NeededBytes))
	}
	return []tile{
		{"sites", count(c.Sites), plural(len(d.Faults), "fault")},
		{"acknowledged", count(c.Acknowledged), fmt.Sprintf("of %s reported", count(c.Reported))},
		{"converged in", duration(c.ConvergeS), "after the last heal"},
		{"on the wire", size(float64(c.WireBytes)), ratio},
		{"lasted", duration(d.WorldS), fmt.Sprintf("played in %s", duration(d.TookS))},
		{"processor", duration(c.CPUS), fmt.Sprintf("%s of memory", size(c.RSSMB*1e6))},
	}
}

// slowest lists the sites that converged last; those that never did come first.
func (d *Data) slowest() (out []slow) {
	last := 0.0
	for _, s := range d.Sites {
		if s.Parent == "" {
			continue
		}
		x := slow{Site: s, Never: s.ConvergedS < 0}
		if x.Never {
			x.Share = 100
		} else {
			last = max(last, x.ConvergedS)
		}
		out = append(out, x)
	}
	slices.SortFunc(out, func(a, b slow) int {
		if a.Never != b.Never {
			if a.Never {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(b.ConvergedS, a.ConvergedS), cmp.Compare(a.ID, b.ID))
	})
	out = out[:min(len(out), slowestMax)]
	for i := range out {
		if !out[i].Never && last > 0 {
			out[i].Share = 100 * out[i].ConvergedS / last
		}
	}
	return out
}

// kinds sums the faults up by their first word.
func (d *Data) kinds() (out []kind) {
	all := map[string]kind{}
	for _, f := range d.Faults {
		word, _, _ := strings.Cut(f.What, " ")
		k := all[word]
		k.What, k.Count, k.LongestS = word, k.Count+1, max(k.LongestS, f.ToS-f.FromS)
		all[word] = k
	}
	return slices.SortedFunc(maps.Values(all), func(a, b kind) int { return cmp.Or(cmp.Compare(b.Count, a.Count), strings.Compare(a.What, b.What)) })
}

func plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return count(n) + " " + what
}

// LineOf finds a step in the script as it is shown. That may be written anew, with
// other lines: then the step's text tells.
func (d *Data) LineOf(number int, text string) int {
	all := strings.Split(d.Script, "\n")
	word, _, _ := strings.Cut(text, " ")
	if number >= 1 && number <= len(all) && strings.HasPrefix(strings.TrimSpace(all[number-1]), word) {
		return number
	}
	if i := slices.IndexFunc(all, func(l string) bool { return strings.TrimSpace(l) == text }); i >= 0 {
		return i + 1
	}
	return number
}

// lines are the script's, with those marked whose expectation did not hold.
func (d *Data) lines() (out []scriptLine) {
	bad := map[int]bool{}
	for _, e := range d.Expected {
		if e.Failed() {
			bad[d.LineOf(e.Line, e.Text)] = true
		}
	}
	for i, text := range strings.Split(strings.TrimRight(d.Script, "\n"), "\n") {
		l := scriptLine{Number: i + 1, Text: text}
		if bad[i+1] {
			l.Mark = "bad"
		}
		out = append(out, l)
	}
	return out
}
