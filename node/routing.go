package node

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/catalog"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
	"github.com/tiermesh/tiermesh/tiers/event"
	"github.com/tiermesh/tiermesh/tiers/responder"
)

// seen says what a cache was made from: how far its streams were, and how many
// documents were listed. A document that changes moves its stream; one that is
// new is listed a little later.
type seen struct {
	vectors map[tiers.StreamID]crdt.Vector
	listed  int
}

func (s seen) equal(o seen) bool {
	return s.listed == o.listed && maps.EqualFunc(s.vectors, o.vectors, maps.Equal)
}

// vectors returns how far streams are now.
func (n *Node) vectors(streams ...tiers.StreamID) map[tiers.StreamID]crdt.Vector {
	out := make(map[tiers.StreamID]crdt.Vector, len(streams))
	for _, id := range streams {
		out[id] = n.group.Store().Vector(id)
	}
	return out
}

// look returns what streams and indexes hold now. Without list it takes the
// indexes to hold what they held: listing them costs more than all the rest.
func (n *Node) look(before seen, list bool, vectors map[tiers.StreamID]crdt.Vector, kinds ...string) (seen, error) {
	s := seen{vectors: vectors, listed: before.listed}
	if !list && s.equal(before) {
		return s, nil
	}
	s.listed = 0
	for _, k := range kinds {
		hits, err := n.group.Store().Index(store.IndexQuery{Name: k})
		if err != nil {
			return s, err
		}
		s.listed += len(hits)
	}
	return s, nil
}

// routing is the rule table of this site and its ancestors, compiled, and the
// categories of the event types; both are made anew when they changed.
type routing struct {
	mu         sync.Mutex // guards the fields below
	from       seen
	table      *dispatch.Table
	categories map[string]string
	// used names the version of the catalog that each rule is of.
	used map[string]catalog.Used
	// types is categories for who takes in reports: a look at it takes no lock.
	types atomic.Pointer[map[string]string]
}

// ruleVersions names the version of the rule that decided, as the table in use has
// it.
func (n *Node) ruleVersions(rule string) map[string]string {
	n.routing.mu.Lock()
	defer n.routing.mu.Unlock()
	if u := n.routing.used[rule]; u != "" {
		return map[string]string{dispatch.UsedRule: string(u)}
	}
	return nil
}

// route returns the rules and categories as this site last saw them. Without
// list, one that was listed only just now may be missing.
func (n *Node) route(list bool) (*dispatch.Table, map[string]string, error) {
	self := n.creds.ID.Site
	streams := []tiers.StreamID{{Site: self, Class: tiers.ClassCatalog}}
	for _, a := range n.Topology().Ancestors(self) {
		streams = append(streams, tiers.StreamID{Site: a, Class: tiers.ClassCatalog})
	}
	r := &n.routing
	r.mu.Lock()
	defer r.mu.Unlock()
	now, err := n.look(r.from, list || r.table == nil, n.vectors(streams...), dispatch.KindRule, catalog.KindEventType)
	if err != nil || r.table != nil && now.equal(r.from) {
		return r.table, r.categories, err
	}
	rules, used, err := n.rules()
	if err != nil {
		return nil, nil, err
	}
	categories, err := n.categories()
	if err != nil {
		return nil, nil, err
	}
	table, bad := dispatch.NewTable(rules)
	for _, err := range bad {
		n.alarms.raise(alarmRule, err.Error(), fmt.Sprintf("rule is unusable: %v", err))
	}
	r.table, r.categories, r.used, r.from = table, categories, used, now
	r.types.Store(&categories)
	return table, categories, nil
}

// subject is what the rules look at of an event.
func (n *Node) subject(v event.View, categories map[string]string, now time.Time) dispatch.Subject {
	site, _ := n.Topology().Site(v.Site)
	r := v.Report
	s := dispatch.Subject{
		Type: r.Type, Category: categories[r.Type], Priority: r.Priority, Title: r.Title, Place: r.Place,
		Grid: r.Grid, Channel: r.Channel, Site: string(v.Site), Tier: site.Tier.String(), At: now, SubjectMode: n.dispatchMode(v.Site),
	}
	if r.Lat != nil && r.Lon != nil {
		s.Lat, s.Lon, s.HasPoint = *r.Lat, *r.Lon, true
	}
	return s
}

// Assign routes an event of this site by its rules, and claims the nearest free
// unit for a task: what dispatching it decides, without its documents. Unit is
// empty, and the order zero, when the rule asks for none or none is free. The
// error wraps [store.ErrNotFound] when no rule matches.
func (n *Node) Assign(ctx context.Context, r event.Report, task tiers.DocID) (d dispatch.Decision, unit string, o responder.Order, err error) {
	table, categories, err := n.route(false)
	if err != nil {
		return d, "", o, err
	}
	s := n.subject(event.View{Site: n.creds.ID.Site, Report: r}, categories, n.opts.Now())
	d, ok := table.Decide(s)
	if !ok {
		return d, "", o, fmt.Errorf("%w: none of %d rules matches", store.ErrNotFound, table.Len())
	}
	if d.Skill == "" {
		return d, "", o, nil
	}
	u, o, ok, err := n.assign(ctx, s, d.Skill, task)
	if err != nil || !ok {
		return d, "", o, err
	}
	return d, u.ref.String(), o, nil
}

// taskSite returns the site that an event's task goes to, and why not where the
// rule says.
func (n *Node) taskSite(d dispatch.Decision) (tiers.SiteID, string) {
	self := n.creds.ID.Site
	to := tiers.SiteID(d.Site)
	if to == "" || to == self {
		return self, ""
	}
	if !n.Topology().MayWrite(tiers.StreamID{Site: to, Class: tiers.ClassCommand}, self) {
		return self, fmt.Sprintf("rule %s names site %s, which is not below this one: the task stays at site %s", d.Rule, to, self)
	}
	return to, ""
}

// Explain is a dry run of the dispatch of an event that this site holds. It
// writes nothing. The error wraps [store.ErrNotFound].
func (n *Node) Explain(_ context.Context, name string) (api.Explanation, error) {
	out := api.Explanation{Units: []dispatch.Candidate{}, Notes: []string{}}
	_, v, err := n.Event(tiers.OfKind(event.Kind, name))
	if err != nil {
		return out, err
	}
	table, categories, err := n.route(true)
	if err != nil {
		return out, err
	}
	s := n.subject(v, categories, n.opts.Now())
	out.Event, out.State, out.Category = v.ID, v.State, s.Category
	if out.Mode, err = n.Mode(v.Site); err != nil {
		return out, err
	}
	var found bool
	var d dispatch.Decision
	if out.Rules, d, found = table.Explain(s); !found {
		out.Notes = append(out.Notes, fmt.Sprintf("none of %d rules matches: the event waits until one does", table.Len()))
		return out, nil
	}
	if l := s.Limit(d.Limit); l != d.Limit {
		out.Notes = append(out.Notes, fmt.Sprintf("in this emergency limits count round the clock: %d %s of the rule is %d %s", d.Limit.Amount, d.Limit.Unit, l.Amount, l.Unit))
		d.Limit = l
	}
	out.Decision = &d
	var note string
	if out.Site, note = n.taskSite(d); note != "" {
		out.Notes = append(out.Notes, note)
	}
	if v.State != event.StateReported {
		out.Notes = append(out.Notes, fmt.Sprintf("the event is %s already; this is what would be decided now", v.State))
	}
	if v.Site != n.creds.ID.Site {
		out.Notes = append(out.Notes, fmt.Sprintf("site %s dispatches its own events; this is what site %s would decide", v.Site, n.creds.ID.Site))
	}
	switch {
	case d.Skill == "":
		out.Notes = append(out.Notes, fmt.Sprintf("rule %s asks for no skill: no unit is sent", d.Rule))
		return out, nil
	case !s.HasPoint:
		out.Notes = append(out.Notes, "the event has no point on the map: distances are not known")
	}
	units, err := n.board.candidates(n)
	if err != nil {
		return out, err
	}
	out.Units = dispatch.Consider(s, d.Skill, units)
	task := string(dispatch.TaskID(v.Name()))
	for _, u := range units {
		if strings.Contains(u.Busy, "held by "+task+" ") {
			out.Notes = append(out.Notes, fmt.Sprintf("unit %s was sent to this event's task", u.ID))
		}
	}
	if len(out.Units) == 0 || !out.Units[0].Chosen {
		out.Notes = append(out.Notes, fmt.Sprintf("no free unit has the skill %s: the task goes out without one", d.Skill))
	}
	return out, nil
}

// PublishRules writes dispatch rules to this site's catalog, all or none; with
// dryRun it only checks them. The error wraps [dispatch.ErrInvalid] and names the
// rule.
func (n *Node) PublishRules(ctx context.Context, key string, rules []dispatch.Rule, dryRun bool) error {
	if len(rules) == 0 || len(rules) > rulesMax {
		return fmt.Errorf("%w: %d rules: want 1 to %d", dispatch.ErrInvalid, len(rules), rulesMax)
	}
	request := api.EntriesRequest{Catalog: catalog.Rules, DryRun: dryRun}
	var all [][]crdt.Op
	var codes []string
	for _, r := range rules {
		ops, err := dispatch.SetRuleOps(r)
		if err != nil {
			return err
		}
		if slices.Contains(codes, r.Code) {
			return fmt.Errorf("%w: rule %s twice", dispatch.ErrInvalid, r.Code)
		}
		codes = append(codes, r.Code)
		all = append(all, ops)
	}
	_, _, err := n.publishRows(ctx, key, request, all...)
	return err
}

// rulesMax bounds the rules that are published at once.
const rulesMax = 500
