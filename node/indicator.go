package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/reading"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
	"github.com/tiermesh/tiermesh/tiers/indicator"
)

// Define writes a definition to this site's catalog. The error wraps
// [indicator.ErrInvalid], or [ErrDefined] when an ancestor defines the code.
func (n *Node) Define(ctx context.Context, key string, d indicator.Definition) (replication.Written, error) {
	return n.define(ctx, key, d, false)
}

// define is [Node.Define]; confirm writes also what the definition says already.
func (n *Node) define(ctx context.Context, key string, d indicator.Definition, confirm bool) (replication.Written, error) {
	ops, err := indicator.Ops(d)
	if err != nil {
		return replication.Written{}, err
	}
	if confirm {
		ops = crdt.Confirmed(ops)
	}
	self := n.creds.ID.Site
	owner, _, err := n.definitionAt(self, d.Code)
	if err != nil {
		return replication.Written{}, err
	}
	if owner != "" && owner != self {
		return replication.Written{}, fmt.Errorf("%w: indicator %s: site %s defines it; choose another code, or ask there", ErrDefined, d.Code, owner)
	}
	if err := n.knownTypes(d); err != nil {
		return replication.Written{}, err
	}
	done, err := n.docs.write(ctx, key, Edit{Key: docKey(self, tiers.ClassCatalog, indicator.Doc(d.Code)), Ops: ops})
	if err != nil {
		return replication.Written{}, err
	}
	return done[0], nil
}

// knownTypes checks that the event types of a definition are in a catalog.
func (n *Node) knownTypes(d indicator.Definition) error {
	types, err := n.categories()
	for _, l := range d.Levels {
		if _, ok := types[l.EventType]; !ok && l.EventType != "" && err == nil {
			return fmt.Errorf("%w: level %s: event_type %q: no catalog has it; see tiermesh type list", indicator.ErrInvalid, l.Name, l.EventType)
		}
	}
	return err
}

// definition returns the definition of a code that holds at this site; the zero
// value when there is none. It is looked up once, as long as no catalog changes.
func (n *Node) definition(code string) (indicator.Definition, error) {
	version, st := "", n.group.Store()
	for _, site := range n.above(n.creds.ID.Site) {
		stream := tiers.StreamID{Site: site, Class: tiers.ClassCatalog}
		digest := st.Vector(stream).Digest(stream)
		version += string(digest[:])
	}
	if d, ok := n.indicators.known(version, code); ok {
		return d, nil
	}
	_, d, err := n.definitionAt(n.creds.ID.Site, code)
	if err == nil {
		n.indicators.learn(version, code, d)
	}
	return d, err
}

// above lists the ancestors of a site, the city first, and the site.
func (n *Node) above(site tiers.SiteID) []tiers.SiteID {
	t, out := n.Topology(), []tiers.SiteID{site}
	for s, ok := t.Site(site); ok && s.Parent != ""; s, ok = t.Site(s.Parent) {
		out = append(out, s.Parent)
	}
	slices.Reverse(out)
	return out
}

// definitionAt returns the definition of a code that holds at a site, as far as it
// has come here, and the site that it is of; "" for none. Of several the highest
// tier's holds. One that does not decode raises an alarm.
func (n *Node) definitionAt(site tiers.SiteID, code string) (tiers.SiteID, indicator.Definition, error) {
	for _, at := range n.above(site) {
		v, err := n.views.View(docKey(at, tiers.ClassCatalog, indicator.Doc(code)))
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			return "", indicator.Definition{}, err
		}
		d, err := indicator.FromView(v.JSON)
		if err == nil {
			return at, d, nil
		}
		n.alarms.raise(alarmIndicator, code, fmt.Sprintf("indicator %s of site %s is unusable: %v", code, at, err))
	}
	return "", indicator.Definition{}, nil
}

// codes lists the codes of all indicators that any site defines, as far as they have
// come here.
func (n *Node) codes() ([]string, error) {
	var out []string
	hits, err := n.group.Store().Index(store.IndexQuery{Name: indicator.KindIndicator})
	for _, h := range hits {
		out = append(out, h.Key.Doc.Name())
	}
	slices.Sort(out)
	return slices.Compact(out), err
}

// indicators are what a node keeps in memory of its indicators.
type indicators struct {
	wake chan struct{}

	mu sync.Mutex // guards the fields below
	// touched are the series of vital signs with readings that nobody has looked at,
	// each with the time of the earliest. It is bounded by the number of series.
	touched map[string]int64
	// byCode are definitions as of a version of the catalogs, also of none.
	version string
	byCode  map[string]indicator.Definition
}

// codesMax bounds the codes that are known by heart; anybody can name any.
const codesMax = 4096

func newIndicators() *indicators {
	return &indicators{touched: map[string]int64{}, wake: make(chan struct{}, 1), byCode: map[string]indicator.Definition{}}
}

func (x *indicators) known(version, code string) (indicator.Definition, bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.version != version || len(x.byCode) > codesMax {
		x.version = version
		clear(x.byCode)
	}
	d, ok := x.byCode[code]
	return d, ok
}

func (x *indicators) learn(version, code string, d indicator.Definition) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.version == version {
		x.byCode[code] = d
	}
}

// touch notes that a series has new readings, also that a value became a gap.
func (x *indicators) touch(s reading.Series) {
	x.mu.Lock()
	defer x.mu.Unlock()
	note := func(at int64) {
		if old, ok := x.touched[s.Name]; !ok || at < old {
			x.touched[s.Name] = at
		}
	}
	for _, p := range s.Points {
		note(p.AtMS)
	}
	for _, g := range s.Gaps {
		note(g.AtMS)
	}
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

func (x *indicators) take() map[string]int64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	out := x.touched
	x.touched = map[string]int64{}
	return out
}

// raise makes the event of a crossing, once; whoever does it again has no effect.
func (n *Node) raise(ctx context.Context, d indicator.Definition, series string, c *indicator.Crossing) error {
	l := d.Levels[c.Level]
	r := event.Report{
		SourceKey: indicator.SourceKey(series, c), Type: l.EventType, Title: d.Title(series, c), Priority: l.Priority,
		Text: fmt.Sprintf("%s since %s", d.Title(series, c), time.UnixMilli(c.StartMS).UTC().Format(time.RFC3339)), Place: series,
		Channel: "indicator", ReportedAtMS: c.RaisedMS,
	}
	if r.Type == "" {
		r.Type = indicator.AlertType
	}
	if err := r.Validate(n.opts.Now()); err != nil {
		n.alarms.raise(alarmIndicator, "alert", fmt.Sprintf("alert of %s could not be made: %v", series, err))
		return nil
	}
	ops, err := event.CreateOps(r)
	if err != nil {
		return err
	}
	self := n.creds.ID.Site
	id := indicator.AlertID(self, r.SourceKey)
	_, err = n.docs.write(ctx, string(id), Edit{Key: docKey(self, event.Class(r.Priority), id), Create: true, Ops: ops})
	if errors.Is(err, ErrExists) {
		return nil
	}
	return err
}

// raisedStarts returns when the crossings of a level of a site's series began of
// which that site's events tell.
func (n *Node) raisedStarts(site tiers.SiteID, series, level string) ([]int64, error) {
	prefix := indicator.SourcePrefix(series, level)
	hits, err := n.group.Store().Index(store.IndexQuery{Name: event.IndexSource, Prefix: prefix})
	var out []int64
	for _, h := range hits {
		at, bad := strconv.ParseInt(strings.TrimPrefix(h.Value, prefix), 10, 64)
		if h.Key.Stream.Site == site && bad == nil {
			out = append(out, at)
		}
	}
	return out, err
}
