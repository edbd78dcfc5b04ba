package report

import (
	"bytes"
	"fmt"
	"html/template"
	"image/color"
	"regexp"
	"unicode/utf8"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// tint is a colour by its name in the style sheet. It is drawn as one that nothing
// else has, and the SVG then names the variable in its place.
type tint uint8

// The tints; series follow from tintSeries on.
const (
	tintInk  tint = 0
	tintMute tint = 1
	tintGrid tint = 2
	tintBand tint = 3
	tintGood tint = 4
	tintBad  tint = 5

	tintSeries tint = 16

	// tintArea makes a tint that of an area, which what lies behind shines through.
	tintArea tint = 64
)

// seriesMax is how many series have a colour of their own.
const seriesMax = 7

// RGBA implements [color.Color].
func (t tint) RGBA() (r, g, b, a uint32) {
	return color.RGBA{R: 0xfe, G: 0x01, B: uint8(t), A: 0xff}.RGBA()
}

// Var is the tint's variable in the style sheet.
func (t tint) Var() template.CSS { return template.CSS(fmt.Sprintf("var(--t%d)", uint8(t))) } //nolint:gosec // a number

// size of a plot, in pixels at full scale.
type extent struct {
	width, height float64
}

// fontSize is that of all texts, in pixels at full scale.
const fontSize = 12

// widths are those in which each plot is drawn, by the name of their class in the
// style sheet, which shows the one that suits the window.
var widths = []struct {
	class string
	width float64
}{{"wide", 960}, {"middle", 620}, {"narrow", 350}}

// ticks is how many marks fit on the horizontal axis.
func (e extent) ticks() int { return max(int(e.width/90), 5) }

// newPlot returns a plot in the report's style.
func newPlot() *plot.Plot {
	p := plot.New()
	p.BackgroundColor = nil
	for _, axis := range []*plot.Axis{&p.X, &p.Y} {
		axis.Padding = 0
		axis.Color, axis.Width = tintMute, 1
		axis.Tick.Color, axis.Tick.Width, axis.Tick.Length = tintMute, 1, 4
		axis.Tick.Label.Color, axis.Tick.Label.Font.Size = tintMute, fontSize
		axis.Tick.Label.Font.Variant = "Sans"
	}
	p.Y.Width, p.Y.Tick.Width, p.Y.Tick.Length = 0, 0, 2
	grid := plotter.NewGrid()
	grid.Vertical.Width = 0
	grid.Horizontal.Color, grid.Horizontal.Width = tintGrid, 1
	p.Add(grid)
	return p
}

// gutter is the width left of the data, which all plots over time share so that
// their moments stand above each other.
const gutter = 58

var (
	fonts    = regexp.MustCompile(`font-family:[^;"]*;font-variant:[^;"]*;font-weight:[^;"]*;font-style:[^;"]*;?`)
	tints    = regexp.MustCompile(`#FE01([0-9A-F]{2})`)
	svgOpen  = regexp.MustCompile(`(?s)^.*?<svg [^>]*?viewBox="([^"]*)"[^>]*>`)
	emptySty = regexp.MustCompile(`\s*style=""`)
)

// svg draws a plot for a page, with what it shows in words.
func svg(p *plot.Plot, e extent, says string) template.HTML {
	c := vgsvg.New(vg.Length(e.width), vg.Length(e.height))
	dc := draw.Crop(draw.New(c), 0, -8, 0, -8)
	if left := p.DataCanvas(dc).Min.X; left < gutter {
		dc = draw.Crop(dc, gutter-left, 0, 0, 0)
	}
	p.Draw(dc)
	var b bytes.Buffer
	_, _ = c.WriteTo(&b) // a buffer takes everything
	text := fonts.ReplaceAllString(b.String(), "")
	text = emptySty.ReplaceAllString(text, "")
	text = tints.ReplaceAllStringFunc(text, func(s string) string {
		var n uint8
		_, _ = fmt.Sscanf(s[5:], "%X", &n) // the pattern has two hexadecimal digits
		if tint(n) >= tintArea {
			return fmt.Sprintf("var(--t%d);fill-opacity:.3", tint(n)-tintArea)
		}
		return fmt.Sprintf("var(--t%d)", n)
	})
	open := fmt.Sprintf(`<svg viewBox="$1" role="img" aria-label="%s" xmlns="http://www.w3.org/2000/svg">`, template.HTMLEscapeString(says))
	return template.HTML(svgOpen.ReplaceAllString(text, open)) //nolint:gosec // gonum escapes texts, and so do we
}

// point is a value at a time.
type point struct{ x, y float64 }

// thin leaves at most about n points of many: of each stretch the lowest and the
// highest, so that no peak is lost.
func thin(in []point, n int) []point {
	if len(in) <= n {
		return in
	}
	var out []point
	for part := range n / 2 {
		some := in[part*len(in)/(n/2) : (part+1)*len(in)/(n/2)]
		low, high := 0, 0
		for i, p := range some {
			if p.y < some[low].y {
				low = i
			}
			if p.y > some[high].y {
				high = i
			}
		}
		out = append(out, some[min(low, high)])
		if low != high {
			out = append(out, some[max(low, high)])
		}
	}
	if last := in[len(in)-1]; out[len(out)-1] != last {
		out = append(out, last)
	}
	return out
}

// dashes tell series apart where colours do not: on paper, and for some eyes.
var dashes = [][]vg.Length{nil, nil, {7, 3}, {2, 3}, {9, 3, 2, 3}, {4, 2}, {6, 2, 1, 2}}

// dash is a series' dashes by its tint.
func (t tint) dash() []vg.Length {
	if t < tintSeries {
		return nil
	}
	return dashes[int(t-tintSeries)%len(dashes)]
}

// addLine adds a series to a plot.
func addLine(p *plot.Plot, points []point, t tint, e extent, change func(*plotter.Line)) {
	xys := plotter.XYs{}
	for _, q := range thin(points, int(e.width)/2) {
		xys = append(xys, plotter.XY{X: q.x, Y: q.y})
	}
	l, err := plotter.NewLine(xys)
	if err != nil {
		return // no points, or one that is no number
	}
	l.Color, l.Width, l.Dashes = t, 2, t.dash()
	if change != nil {
		change(l)
	}
	p.Add(l)
}

// bands shades stretches of time behind everything else.
type bands []point // from x to y

// Plot implements [plot.Plotter].
func (b bands) Plot(c draw.Canvas, p *plot.Plot) {
	x, _ := p.Transforms(&c)
	for _, q := range b {
		r := vg.Rectangle{Min: vg.Point{X: x(q.x), Y: c.Min.Y}, Max: vg.Point{X: max(x(q.y), x(q.x)+1), Y: c.Max.Y}}
		c.SetColor(tintBand)
		c.Fill(r.Path())
	}
}

// textWidth estimates a text's width in pixels: fonts that show Chinese are not
// here to measure.
func textWidth(s string) float64 {
	w := 0.0
	for _, r := range s {
		if utf8.RuneLen(r) >= 3 {
			w += fontSize
		} else {
			w += 0.55 * fontSize
		}
	}
	return w
}

// cut shortens a text to a width.
func cut(s string, width float64) string {
	if textWidth(s) <= width {
		return s
	}
	runes := []rune(s)
	for len(runes) > 0 && textWidth(string(runes)+"…") > width {
		runes = runes[:len(runes)-1]
	}
	return string(runes) + "…"
}
