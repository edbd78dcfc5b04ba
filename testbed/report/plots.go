package report

import (
	"cmp"
	"fmt"
	"html/template"
	"maps"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/tiermesh/tiermesh/tiers"
)

// figure is one plot of the page.
type figure struct {
	ID, Title, Note string
	Keys            []key
	// Drawn is the plot in each width; none when there is nothing to draw, and
	// Nothing says why.
	Drawn   []drawn
	Nothing string
}

// drawn is a plot for windows of some width.
type drawn struct {
	Class string
	SVG   template.HTML
}

// key is an entry of a legend.
type key struct {
	Tint  tint
	Area  bool
	Label string
	Dash  []vg.Length
}

// line and area are the keys of a series and of an area.
func line(t tint, label string) key { return key{t, false, label, t.dash()} }
func area(t tint, label string) key { return key{t, true, label, nil} }

// Dashes are the key's dashes, for a line as wide as a legend's.
func (k key) Dashes() string {
	var parts []string
	for _, d := range k.Dash {
		parts = append(parts, fmt.Sprint(d.Points()))
	}
	return strings.Join(parts, " ")
}

// draw fills in every width.
func (f *figure) draw(height float64, at func(extent) *plot.Plot) {
	for _, w := range widths {
		e := extent{w.width, height}
		f.Drawn = append(f.Drawn, drawn{w.class, svg(at(e), e, f.Title)})
	}
}

// ends is how long the axes of time are.
func (d *Data) ends() float64 {
	end := d.WorldS
	for _, s := range d.Samples {
		end = max(end, s.AtS)
	}
	for _, f := range d.Faults {
		end = max(end, f.FromS, f.ToS)
	}
	return max(end, 0.001)
}

// overTime returns a plot over the run's time, with faults as bands.
func (d *Data) overTime(e extent) *plot.Plot {
	p := newPlot()
	p.X.Min, p.X.Max = 0, d.ends()
	p.X.Tick.Marker = timeTicks(e.ticks())
	p.Y.Min = 0
	p.Add(d.bands())
	return p
}

// bands joins the times of faults that overlap. When there is a fault nearly all the
// time, bands would say nothing.
func (d *Data) bands() bands {
	var out bands
	total := 0.0
	for _, f := range d.Faults { // in order of their begin
		if f.ToS <= f.FromS {
			continue
		}
		if n := len(out); n > 0 && f.FromS <= out[n-1].y {
			out[n-1].y = max(out[n-1].y, f.ToS)
			continue
		}
		out = append(out, point{f.FromS, f.ToS})
	}
	for _, b := range out {
		total += b.y - b.x
	}
	if total > 0.9*d.ends() || len(out) > 100 {
		return nil
	}
	return out
}

// series is one value of the samples over time.
func (d *Data) series(value func(Sample) float64) []point {
	out := make([]point, len(d.Samples))
	for i, s := range d.Samples {
		out[i] = point{s.AtS, value(s)}
	}
	return out
}

const noSamples = "Nothing was sampled."

// lanes lists the lanes of the samples, most urgent first.
func (d *Data) lanes() []string {
	all := map[string]bool{}
	for _, s := range d.Samples {
		for lane := range s.Owed {
			all[lane] = true
		}
	}
	rank := func(name string) int {
		first, _, _ := strings.Cut(name, ",") // a lane of two classes names both
		c, err := tiers.ParseClass(first)
		if err != nil {
			return math.MaxInt
		}
		return int(c.Lane())<<8 + int(c)
	}
	return slices.SortedFunc(maps.Keys(all), func(a, b string) int { return cmp.Or(cmp.Compare(rank(a), rank(b)), strings.Compare(a, b)) })
}

// laneTint is a lane's colour, the same in every report.
func laneTint(name string, i int) tint {
	first, _, _ := strings.Cut(name, ",")
	if c, err := tiers.ParseClass(first); err == nil {
		i = int(c) - 1
	}
	return tintSeries + tint(i%seriesMax)
}

// backlog is the plot of what is owed.
func (d *Data) backlog() figure {
	f := figure{
		ID: "backlog", Title: "Backlog per lane", Nothing: noSamples,
		Note: "Records that links owe, over all sites, by their logarithm.",
	}
	if len(d.bands()) > 0 {
		f.Note += " Shaded: a fault is on."
	}
	lanes := d.lanes()
	if len(d.Samples) > 0 && len(lanes) == 0 {
		f.Nothing = "Nothing was owed whenever it was looked at."
	}
	if len(lanes) == 0 {
		return f
	}
	for i, lane := range lanes {
		f.Keys = append(f.Keys, line(laneTint(lane, i), lane))
	}
	f.draw(240, func(e extent) *plot.Plot {
		p := d.overTime(e)
		p.Y.Scale, p.Y.Tick.Marker = countScale{}, plot.TickerFunc(countTicks)
		p.Y.Max = 10
		for i := len(lanes) - 1; i >= 0; i-- { // the most urgent on top
			points := d.series(func(s Sample) float64 { return float64(s.Owed[lanes[i]]) })
			addLine(p, points, f.Keys[i].Tint, e, func(l *plotter.Line) { l.StepStyle = plotter.PostStep })
		}
		return p
	})
	return f
}

// links is the plot of lines in use and proven equal.
func (d *Data) links() figure {
	f := figure{
		ID: "links", Title: "Links", Nothing: noSamples, Note: "Lines of the tree: all, those in use, and those proven equal at both ends.",
		Keys: []key{{tintMute, false, "all", []vg.Length{2, 3}}, line(tintSeries, "connected"), area(tintGood, "equal")},
	}
	if len(d.Samples) == 0 {
		return f
	}
	f.draw(200, func(e extent) *plot.Plot {
		p := d.overTime(e)
		p.Y.Tick.Marker = evenTicks(short, 1)
		step := func(l *plotter.Line) { l.StepStyle = plotter.PostStep }
		addLine(p, d.series(func(s Sample) float64 { return float64(s.Equal) }), tintGood, e, func(l *plotter.Line) {
			l.StepStyle, l.FillColor = plotter.PostStep, tintGood+tintArea
		})
		addLine(p, d.series(func(s Sample) float64 { return float64(s.Connected) }), tintSeries, e, step)
		addLine(p, d.series(func(s Sample) float64 { return float64(s.Links) }), tintMute, e, func(l *plotter.Line) {
			l.Dashes = []vg.Length{2, 3}
		})
		p.Y.Max = max(p.Y.Max*1.08, 1)
		return p
	})
	return f
}

// bytes is the plot of what was sent, against what had to be.
func (d *Data) bytes() figure {
	f := figure{
		ID: "bytes", Title: "Bytes on the wire", Nothing: noSamples,
		Note: "UDP payload that sites have sent so far, handshakes and acknowledgements included, against the bytes of the batches that carried something new.",
		Keys: []key{area(tintSeries+3, "sent"), {tintInk, false, "needed in all", []vg.Length{5, 3}}},
	}
	if len(d.Samples) == 0 {
		return f
	}
	f.draw(200, func(e extent) *plot.Plot {
		p := d.overTime(e)
		p.Y.Tick.Marker = evenTicks(size, 0)
		addLine(p, d.series(func(s Sample) float64 { return float64(s.WireBytes) }), tintSeries+3, e, func(l *plotter.Line) {
			l.FillColor, l.Dashes = tintSeries+3+tintArea, nil
		})
		needed := float64(d.Count.NeededBytes)
		addLine(p, []point{{0, needed}, {d.ends(), needed}}, tintInk, e, func(l *plotter.Line) {
			l.Width, l.Dashes = 1.5, []vg.Length{5, 3}
		})
		p.Y.Max = max(p.Y.Max*1.08, 1)
		return p
	})
	return f
}

// convergence is the plot of how many sites were equal when.
func (d *Data) convergence() figure {
	f := figure{
		ID: "convergence", Title: "Convergence per site", Nothing: "No site has a line to a parent.",
		Note: "Share of the sites whose link to their parent was proven equal, by the time since the last fault was over.",
	}
	last := 0.0
	curves := map[string][]point{}
	tints := map[tiers.Tier]tint{tiers.TierDistrict: tintSeries + 2, tiers.TierTownship: tintSeries}
	var names []string
	for _, tier := range []tiers.Tier{tiers.TierDistrict, tiers.TierTownship} {
		of, after := 0, []float64{}
		for _, s := range d.Sites {
			if s.Parent == "" || s.Tier != tier.String() {
				continue
			}
			of++
			if s.ConvergedS >= 0 {
				after = append(after, s.ConvergedS)
			}
		}
		if of == 0 {
			continue
		}
		slices.Sort(after)
		curve := []point{{0, 0}}
		for i, x := range after {
			curve = append(curve, point{x, 100 * float64(i+1) / float64(of)})
			last = max(last, x)
		}
		name := tier.String()
		names = append(names, name)
		curves[name] = curve
		f.Keys = append(f.Keys, line(tints[tier], fmt.Sprintf("%s: %s of %s", name, count(len(after)), count(of))))
	}
	if len(names) == 0 {
		return f
	}
	end := max(last*1.05, 0.01)
	f.draw(220, func(e extent) *plot.Plot {
		p := newPlot()
		p.X.Min, p.X.Max, p.Y.Min, p.Y.Max = 0, end, 0, 104
		p.X.Tick.Marker = timeTicks(e.ticks())
		p.Y.Tick.Marker = plot.ConstantTicks{{Value: 0, Label: "0 %"}, {Value: 25, Label: "25 %"}, {Value: 50, Label: "50 %"}, {Value: 75, Label: "75 %"}, {Value: 100, Label: "100 %"}}
		for i, name := range names {
			curve := curves[name]
			curve = append(slices.Clone(curve), point{end, curve[len(curve)-1].y})
			addLine(p, curve, f.Keys[i].Tint, e, func(l *plotter.Line) { l.StepStyle = plotter.PostStep })
		}
		return p
	})
	return f
}

// rowsMax is how many faults are drawn one by one.
const rowsMax = 24

// timeline is the plot of the faults.
func (d *Data) timeline() figure {
	f := figure{ID: "timeline", Title: "Faults", Nothing: "Nothing was done to the federation."}
	switch {
	case len(d.Faults) == 0:
	case len(d.Faults) <= rowsMax:
		f.Note = "Each fault by when it was on. A dot had no length, or lasted to the end of the run."
		f.draw(float64(len(d.Faults))*26+40, d.rows)
	default:
		f.Note = fmt.Sprintf("How many of the %s faults were on at a time; those without a length, or that lasted to the end of the run, are in the list.", count(len(d.Faults)))
		f.Keys = []key{area(tintBad, "faults on")}
		f.draw(180, d.many)
	}
	return f
}

// rows draws each fault as a bar with its text above.
func (d *Data) rows(e extent) *plot.Plot {
	p := newPlot()
	p.X.Min, p.X.Max = 0, d.ends()
	p.X.Tick.Marker = timeTicks(e.ticks())
	p.Y.Min, p.Y.Max = -0.1, float64(len(d.Faults))
	p.Y.Tick.Marker = plot.ConstantTicks{}
	p.Add(faultRows(d.Faults))
	return p
}

// faultRows draws faults from the top down.
type faultRows []Fault

// Plot implements [plot.Plotter].
func (rows faultRows) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	style := text.Style{Color: tintInk, Font: p.X.Tick.Label.Font, Handler: p.TextHandler}
	for i, f := range rows {
		bottom := y(float64(len(rows)-1-i) + 0.12)
		left, right := x(f.FromS), x(max(f.ToS, f.FromS))
		c.SetColor(tintBad)
		if f.ToS > f.FromS {
			c.Fill(vg.Rectangle{Min: vg.Point{X: left, Y: bottom}, Max: vg.Point{X: max(right, left+2), Y: bottom + 6}}.Path())
		} else {
			c.DrawGlyphNoClip(draw.GlyphStyle{Color: tintBad, Radius: 4, Shape: draw.CircleGlyph{}}, vg.Point{X: min(max(left, c.Min.X+4), c.Max.X-4), Y: bottom + 3})
		}
		room := c.Max.X - c.Min.X
		label := cut(f.What, room.Points())
		at := max(min(left, c.Max.X-vg.Length(textWidth(label))), c.Min.X)
		c.FillText(style, vg.Point{X: at, Y: bottom + 9}, label)
	}
}

// many draws how many faults are on.
func (d *Data) many(e extent) *plot.Plot {
	change := map[float64]float64{}
	for _, f := range d.Faults {
		if f.ToS > f.FromS {
			change[f.FromS]++
			change[f.ToS]--
		}
	}
	on, points := 0.0, []point{{0, 0}}
	for _, at := range slices.Sorted(maps.Keys(change)) {
		on += change[at]
		points = append(points, point{at, on})
	}
	points = append(points, point{d.ends(), on})
	p := newPlot()
	p.X.Min, p.X.Max, p.Y.Min = 0, d.ends(), 0
	p.X.Tick.Marker, p.Y.Tick.Marker = timeTicks(e.ticks()), evenTicks(short, 1)
	addLine(p, points, tintBad, e, func(l *plotter.Line) { l.StepStyle, l.FillColor, l.Width = plotter.PostStep, tintBad+tintArea, 1 })
	p.Y.Max = max(p.Y.Max*1.08, 1)
	return p
}
