package report

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/tiermesh/tiermesh/tiers/legible"
)

// Progress shows a run to a person while it lasts: on a terminal with one line that
// is drawn again and again, elsewhere with whole lines only. It is safe for
// concurrent use.
type Progress struct {
	w    io.Writer // shows texts, of which nothing acts on a terminal
	pen  io.Writer // the same output; takes a line away
	live bool

	mu    sync.Mutex // guards the fields below
	drawn bool       // a line that is to be drawn over
	last  time.Time
	next  float64 // the time of a run from which on the next plain line is due
}

// redrawAfter is how long a line stays at least, so that a terminal can follow.
const redrawAfter = 50 * time.Millisecond

// NewProgress shows runs on w, live when that is a terminal, or guards one.
func NewProgress(w io.Writer) *Progress {
	if guard, ok := w.(interface{ Unwrap() io.Writer }); ok {
		w = guard.Unwrap()
	}
	p := &Progress{w: legible.NewWriter(w), pen: w}
	if f, ok := w.(*os.File); ok {
		info, err := f.Stat()
		p.live = err == nil && info.Mode()&os.ModeCharDevice != 0 && filepath.Base(f.Name()) != "null"
	}
	return p
}

// Live reports whether a line can be drawn again.
func (p *Progress) Live() bool { return p.live }

// Step begins a phase.
func (p *Progress) Step(text string) { p.Line("\n" + text) }

// Line states a result.
func (p *Progress) Line(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	fmt.Fprintln(p.w, text)
}

// Bar moves inside a phase: done of so many things. Nothing shows where a line
// cannot be drawn again.
func (p *Progress) Bar(done, of int, what string) {
	const width = 30
	full := 0
	if of > 0 {
		full = min(width*done/of, width)
	}
	p.draw(done == of, fmt.Sprintf("  [%-*s] %d of %d %s", width, strings.Repeat("#", full), done, of, what))
}

// Sample shows where a run is: its time, what was acknowledged, what is owed, and
// the links that are equal. Where a line cannot be drawn again, one shows every ten
// seconds of the run's time at first, and then ever more seldom, as a long run's
// log should stay short.
func (p *Progress) Sample(s Sample) {
	owed := uint64(0)
	for _, n := range s.Owed {
		owed += n
	}
	text := fmt.Sprintf("  %-11s acked %s/%s  owed %s  links %d/%d  equal %d", // within 80 columns
		duration(max(s.AtS, 0)), count(s.Acknowledged), count(s.Reported), count(owed), s.Connected, s.Links, s.Equal)
	if p.live {
		p.draw(false, text)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.AtS >= p.next {
		p.next = max(s.AtS+10, s.AtS*1.25)
		fmt.Fprintln(p.w, text)
	}
}

// Done takes the line away that is drawn again and again.
func (p *Progress) Done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
}

// draw draws the line anew, unless that was done just now.
func (p *Progress) draw(always bool, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.live || time.Since(p.last) < redrawAfter && !always {
		return
	}
	p.clear()
	fmt.Fprint(p.w, text)
	p.drawn, p.last = true, time.Now()
}

func (p *Progress) clear() {
	if p.drawn {
		fmt.Fprint(p.pen, "\r\033[K")
		p.drawn = false
	}
}
