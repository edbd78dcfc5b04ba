package node

import (
	"context"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/command"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
	"github.com/tiermesh/tiermesh/tiers/event"
	"github.com/tiermesh/tiermesh/tiers/responder"
)

// SwitchMode implements [api.Modes].
func (b backend) SwitchMode(ctx context.Context, r api.ModeRequest) (api.ModeResult, error) {
	w, err := b.n.SwitchMode(ctx, "api:"+r.Key, command.Switch{
		Area: r.Area, Mode: r.Mode, Level: r.Level, Hours: r.Hours, Who: r.Who, Reason: r.Reason,
	})
	if err != nil {
		return api.ModeResult{}, translate(err)
	}
	s, err := b.n.Mode(tiers.SiteID(w.Doc.Name()))
	return api.ModeResult{WriteResult: api.WriteResult{ID: w.Doc, Stream: w.Stream.String(), Seq: w.Seq}, Standing: s}, translate(err)
}

// Mode implements [api.Modes].
func (b backend) Mode(_ context.Context, site tiers.SiteID) (command.Standing, error) {
	if site == "" {
		site = b.n.creds.ID.Site
	}
	s, err := b.n.Mode(site)
	return s, translate(err)
}

// ModeHistory implements [api.Modes].
func (b backend) ModeHistory(_ context.Context, site tiers.SiteID) (api.ModeHistory, error) {
	all, err := b.n.ModeHistory(site)
	return api.ModeHistory{Switches: all}, translate(err)
}

// SetSilence implements [api.Modes].
func (b backend) SetSilence(ctx context.Context, r api.SilenceRequest) (api.WriteResult, error) {
	w, err := b.n.SetSilence(ctx, "api:"+r.Key, r.Limit)
	return api.WriteResult{ID: w.Doc, Stream: w.Stream.String(), Seq: w.Seq}, translate(err)
}

// The states of a site below, as this one hears it.
const (
	siteHeard   = "heard"
	siteSilent  = "silent"
	siteNever   = "never heard"
	siteUnknown = "unknown" // this node has not listened for long enough
)

// Silence implements [api.Modes].
func (b backend) Silence(_ context.Context, all bool) (out api.SilenceReport, err error) {
	n := b.n
	now := n.opts.Now()
	o, err := n.observe(now)
	if err != nil {
		return out, translate(err)
	}
	newest, err := n.newestRecords()
	if err != nil {
		return out, translate(err)
	}
	units, err := n.unitsAt()
	if err != nil {
		return out, translate(err)
	}
	t, verdicts := n.Topology(), command.Judge(n.Topology(), o.Observed)
	out = api.SilenceReport{AtMS: o.NowMS, SinceMS: o.SinceMS, Sites: len(verdicts), Rows: []api.SilentSite{}, Limits: []command.Limit{}}
	if set, err := n.silenceLimits(); err != nil {
		return out, translate(err)
	} else if set != nil {
		out.Limits = set
	}
	for _, site := range t.Sites() {
		v, below := verdicts[site.ID]
		if !below {
			continue
		}
		if v.Silent {
			out.Silent++
		}
		if !all && (v.Heard || !v.Silent) {
			continue
		}
		row := silentRow(o, site, v)
		if !v.Heard {
			if row.Stale, err = n.stale(site.ID, newest); err != nil {
				return out, translate(err)
			}
			row.Stale.Units = units[site.ID]
		}
		out.Rows = append(out.Rows, row)
	}
	return out, nil
}

func silentRow(o observed, site tiers.Site, v command.Verdict) api.SilentSite {
	row := api.SilentSite{
		Site: site.ID, Name: site.Name, Tier: site.Tier.String(), Parent: site.Parent, State: siteHeard,
		Behind: v.Behind, By: v.By, Contact: o.Contacts[site.ID], LimitMS: o.Limits[site.ID],
	}
	if !row.Contact.Live && row.Contact.AtMS != 0 {
		row.SilentMS = max(o.NowMS-row.Contact.AtMS, 0)
	}
	switch {
	case v.Silent && row.Contact.AtMS == 0:
		row.State = siteNever
	case v.Silent:
		row.State = siteSilent
	case !v.Heard:
		row.State = siteUnknown
	}
	if open := o.open[site.ID]; len(open) > 0 {
		row.Alert = open[0].ID
	}
	return row
}

// staleMax bounds what is counted of a silent site.
const staleMax = 1000

// stale tells what is known of a site that is not heard.
func (n *Node) stale(site tiers.SiteID, newest map[tiers.StreamID]crdt.HybridTime) (out api.SilentStale, err error) {
	out.NewestMS = map[string]int64{}
	for _, c := range tiers.Classes() {
		if at := newest[tiers.StreamID{Site: site, Class: c}]; at != 0 {
			out.NewestMS[c.String()] = at.Millis()
		}
	}
	st := n.group.Store()
	tasks, err := st.Index(store.IndexQuery{Name: dispatch.IndexTaskCustodian, Prefix: dispatch.IndexPrefix(string(site), true), Limit: staleMax})
	if err != nil {
		return out, err
	}
	events, err := st.Index(store.IndexQuery{Name: event.IndexUndispatched, Prefix: event.UndispatchedAt(site), Limit: staleMax})
	out.Tasks, out.Events = len(tasks), len(events)
	return out, err
}

// unitsAt counts the units of each home.
func (n *Node) unitsAt() (map[tiers.SiteID]int, error) {
	out := map[tiers.SiteID]int{}
	hits, err := n.group.Store().Index(store.IndexQuery{Name: responder.Kind})
	for _, h := range hits {
		out[h.Key.Stream.Site]++
	}
	return out, err
}
