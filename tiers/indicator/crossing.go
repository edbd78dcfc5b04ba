package indicator

import (
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tiermesh/tiermesh/crdt/reading"
	"github.com/tiermesh/tiermesh/tiers"
)

// Crossing is one time that a series was at a level.
type Crossing struct {
	// Level is the place of the level in the definition, Name its name.
	Level int    `json:"-"`
	Name  string `json:"level"`
	// StartMS is when the value came to the level, RaisedMS when it had been there
	// for the level's duration; Value is the one read then.
	StartMS  int64   `json:"start_ms"`
	RaisedMS int64   `json:"raised_ms"`
	Value    float64 `json:"value"`
	// ClearedMS is when it ended, 0 while it has not.
	ClearedMS int64 `json:"cleared_ms,omitempty"`
	// Certain says that the points before it show that it did not begin earlier.
	Certain bool `json:"-"`
}

// gapMax is how long readings may be missing while a level waits for its duration,
// where that is not longer.
const gapMax = time.Hour

// Watch follows one level over the points of a series. The zero value, with Level
// set, is below it.
type Watch struct {
	Level Level
	Place int
	// Values says which numbers are values; the others say nothing of the level.
	Values reading.Range

	pending bool
	sure    bool // a point has cleared it
	crossed *Crossing
	start   int64
	last    int64
}

// Sure reports whether the points so far say in which state the level is, whatever
// came before them.
func (w *Watch) Sure() bool { return w.sure }

// Step takes the next point in, in the order of time, and returns the crossing that
// it raised, or nil.
func (w *Watch) Step(p reading.Point) *Crossing {
	if !w.Values.Holds(p.Value) {
		return nil
	}
	gap := p.AtMS-w.last > max(gapMax.Milliseconds(), int64(w.Level.ForS)*1000)
	w.last = p.AtMS
	cleared := w.Level.cleared(p.Value)
	w.sure = w.sure || cleared
	if w.crossed != nil {
		if cleared {
			w.crossed.ClearedMS = p.AtMS
			w.crossed, w.pending = nil, false
		}
		return nil // what clears it is not at it
	}
	if !at(w.Level.Op, p.Value, w.Level.Threshold) {
		w.pending = false
		return nil
	}
	if !w.pending || gap {
		w.pending, w.start = true, p.AtMS
	}
	if p.AtMS-w.start < int64(w.Level.ForS)*1000 {
		return nil
	}
	w.crossed = &Crossing{Level: w.Place, Name: w.Level.Name, StartMS: w.start, RaisedMS: p.AtMS, Value: p.Value, Certain: w.sure}
	return w.crossed
}

// Watches returns a watch for each level, below it.
func (d Definition) Watches() []Watch {
	out, values := make([]Watch, len(d.Levels)), d.Range()
	for i, l := range d.Levels {
		out[i] = Watch{Level: l, Place: i, Values: values}
	}
	return out
}

// Crossings lets watches take points in, in the order of time, and returns every
// crossing that they raised: by the time at which it was raised, then by level.
func Crossings(watches []Watch, points []reading.Point) []*Crossing {
	var out []*Crossing
	for _, p := range points {
		for i := range watches {
			if c := watches[i].Step(p); c != nil {
				out = append(out, c)
			}
		}
	}
	return out
}

// Alerts returns the crossings that raise an alert: all but those that come with a
// more severe one, of the same side, that is raised by the same reading or has not
// ended by then.
func (d Definition) Alerts(crossings []*Crossing) []*Crossing {
	var out []*Crossing
	for _, c := range crossings {
		covered := false
		for _, o := range crossings {
			covered = covered || o.Level > c.Level && d.Levels[o.Level].Op == d.Levels[c.Level].Op &&
				o.RaisedMS <= c.RaisedMS && (o.ClearedMS == 0 || o.ClearedMS > c.RaisedMS)
		}
		if !covered {
			out = append(out, c)
		}
	}
	return out
}

// Present returns the most severe level that is crossed now, or nil.
func Present(crossings []*Crossing) *Crossing {
	var out *Crossing
	for _, c := range crossings {
		if c.ClearedMS == 0 && (out == nil || c.Level > out.Level) {
			out = c
		}
	}
	return out
}

// SourceKey is the key that an alert's event bears: it says which crossing it is of.
func SourceKey(series string, c *Crossing) string {
	return SourcePrefix(series, c.Name) + strconv.FormatInt(c.StartMS, 10)
}

// SourcePrefix is the part of [SourceKey] before the time.
func SourcePrefix(series, level string) string { return "alert:" + series + ":" + level + ":" }

// Raised reports whether one of the times at which crossings of a level began, of
// which there are alerts, is that of a crossing: readings that came late may have
// moved its beginning to an earlier time.
func (c *Crossing) Raised(starts []int64) bool {
	for _, s := range starts {
		if s >= c.StartMS && (c.ClearedMS == 0 || s < c.ClearedMS) {
			return true
		}
	}
	return false
}

// AlertID returns the identifier of the event of an alert at a site: a UUID of
// version 8 over the site and the source key.
func AlertID(site tiers.SiteID, sourceKey string) tiers.DocID {
	h := sha256.Sum256([]byte("tiermesh alert v1\x00" + string(site) + "\x00" + sourceKey))
	h[6], h[8] = h[6]&0x0f|0x80, h[8]&0x3f|0x80
	return tiers.NewDocID("event", fmt.Sprintf("%x-%x-%x-%x-%x", h[0:4], h[4:6], h[6:8], h[8:10], h[10:16]))
}

// Title says in a line what a crossing is.
func (d Definition) Title(series string, c *Crossing) string {
	l := d.Levels[c.Level]
	return strings.TrimSpace(fmt.Sprintf("%s %s: %v %s %v %s", d.Name, series, c.Value, l.Op, l.Threshold, d.Unit)) + " (" + l.Name + ")"
}
