package node

import (
	"context"
	"fmt"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/crdt/reading"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/indicator"
)

// ImportReadings implements [api.Backend].
func (b backend) ImportReadings(ctx context.Context, r api.ReadingsRequest) (api.ReadingsResult, error) {
	in := make([]Reading, len(r.Readings))
	for i, x := range r.Readings {
		text := string(x.Value)
		in[i] = Reading{Series: x.Series, Point: reading.Point{AtMS: x.AtMS}, Text: &text}
	}
	done, err := b.n.Import(ctx, "api:"+r.Key, in, r.Compare)
	if err != nil {
		return api.ReadingsResult{}, translate(err)
	}
	out := api.ReadingsResult{
		Accepted: len(in) - len(done.Bad), Missing: done.Missing, New: done.New, Changed: done.Changed, Known: done.Known,
		Seq: done.Seq, Bad: []api.RowError{},
	}
	if done.Seq > 0 {
		out.Stream = done.Stream.String()
	}
	for i := range in {
		if err := done.Bad[i]; err != nil {
			out.Bad = append(out.Bad, api.RowError{Row: i, Message: err.Error()})
		}
	}
	return out, nil
}

// DefineIndicator implements [api.Backend].
func (b backend) DefineIndicator(ctx context.Context, r api.IndicatorRequest) (api.WriteResult, error) {
	w, err := b.n.define(ctx, "api:"+r.Key, r.Indicator, r.Confirm)
	return api.WriteResult{ID: w.Doc, Stream: w.Stream.String(), Seq: w.Seq}, translate(err)
}

// siteOr returns a site that was asked for, this one when none was.
func (n *Node) siteOr(site tiers.SiteID) (tiers.SiteID, error) {
	if site == "" {
		return n.creds.ID.Site, nil
	}
	return site, site.Validate()
}

// sizes are the rollups of each unit, in milliseconds.
var sizes = map[string]int64{api.ByMinute: reading.MinuteMS, api.ByHour: reading.HourMS, api.ByDay: 24 * reading.HourMS}

// Readings implements [api.Backend].
func (b backend) Readings(_ context.Context, q api.ReadingsQuery) (api.ReadingsPage, error) {
	st := b.n.group.Store()
	site, err := b.n.siteOr(q.Site)
	if err == nil {
		err = reading.ValidName(q.Series)
	}
	if err != nil {
		return api.ReadingsPage{}, fmt.Errorf("%w: %w", api.ErrInvalid, err)
	}
	_, d, err := b.n.definitionAt(site, reading.Code(q.Series))
	if err != nil {
		return api.ReadingsPage{}, translate(err)
	}
	if _, held, err := st.LastReading(site, q.Series, d.Range()); err != nil || !held {
		if err == nil {
			err = fmt.Errorf("%w: this site holds no series %s of site %s", api.ErrNotFound, q.Series, site)
		}
		return api.ReadingsPage{}, translate(err)
	}
	kept, err := st.Kept(site, reading.Code(q.Series))
	if err != nil {
		return api.ReadingsPage{}, translate(err)
	}
	out := api.ReadingsPage{
		Site: site, Series: q.Series, By: q.By, ReadingsFromMS: kept.ReadingsFromMS, MinutesFromMS: kept.MinutesFromMS, Late: kept.Late,
	}
	if q.By == api.ByRaw {
		points, gaps, err := st.ReadingsAndGaps(site, q.Series, q.FromMS, q.ToMS, q.Limit+1)
		out.Points, out.Missing = d.Range().Part(points, gaps)
		if n, m := len(out.Points), len(out.Missing); n+m > q.Limit { // the last one is of the next page
			if m == 0 || n > 0 && out.Points[n-1].AtMS > out.Missing[m-1].AtMS {
				out.NextMS, out.Points = out.Points[n-1].AtMS, out.Points[:n-1]
			} else {
				out.NextMS, out.Missing = out.Missing[m-1].AtMS, out.Missing[:m-1]
			}
		}
		return out, translate(err)
	}
	err = st.Rollups(site, q.Series, d.Range(), q.FromMS, q.ToMS, sizes[q.By], -indicator.Zone.Milliseconds(), func(r reading.Rollup) bool {
		if len(out.Rollups) == q.Limit {
			out.NextMS = r.StartMS
			return false
		}
		out.Rollups = append(out.Rollups, r)
		return true
	})
	return out, translate(err)
}

// seriesMax bounds the series of an [api.IndicatorState].
const seriesMax = 1000

// IndicatorState implements [api.Backend].
func (b backend) IndicatorState(_ context.Context, site tiers.SiteID, code string) (api.IndicatorState, error) {
	n := b.n
	site, err := n.siteOr(site)
	if err == nil {
		err = indicator.Doc(code).Validate()
	}
	if err != nil {
		return api.IndicatorState{}, fmt.Errorf("%w: %w", api.ErrInvalid, err)
	}
	out := api.IndicatorState{Site: site, Series: []api.SeriesState{}}
	if out.DefinedBy, out.Indicator, err = n.definitionAt(site, code); err != nil {
		return out, translate(err)
	}
	if out.DefinedBy == "" {
		return out, fmt.Errorf("%w: this site knows no indicator %q that holds at site %s", api.ErrNotFound, code, site)
	}
	kept, err := n.group.Store().Kept(site, code)
	if err != nil {
		return out, translate(err)
	}
	out.Late = kept.Late
	names, err := n.group.Store().Series(site, code, "", seriesMax)
	if err != nil {
		return out, translate(err)
	}
	for _, name := range names {
		s, err := n.seriesState(site, name, out.Indicator)
		if err != nil {
			return out, translate(err)
		}
		out.Series = append(out.Series, s)
	}
	return out, nil
}

func (n *Node) seriesState(site tiers.SiteID, name string, d indicator.Definition) (api.SeriesState, error) {
	st := n.group.Store()
	last, _, err := st.LastReading(site, name, d.Range())
	out := api.SeriesState{Series: name, Missing: last.Gap}
	if last.Known {
		out.LastMS, out.Value, out.Grade = last.Value.AtMS, &last.Value.Value, d.Grade(last.Value.Value)
	}
	if err != nil || len(d.Levels) == 0 || !last.Known {
		return out, err
	}
	points, err := st.Readings(site, name, last.Value.AtMS-watchBack.Milliseconds(), reading.TimeMaxMS, watchPoints)
	if err != nil {
		return out, err
	}
	out.Level = indicator.Present(indicator.Crossings(d.Watches(), points))
	for _, l := range d.Levels {
		starts, err := n.raisedStarts(site, name, l.Name)
		if err != nil {
			return out, err
		}
		out.Alerts += len(starts)
	}
	return out, nil
}
