package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/review"
)

// reviewFlags are those of the review command.
type reviewFlags struct {
	at, site, event string
	peers, with     []string
	all             bool
	q               api.ReviewQuery
}

func newReview(g *global) *cobra.Command {
	var r reviewFlags
	cmd := &cobra.Command{
		Use: "review", Short: "What a site knew at a time, and when each site learnt of what was done about an event", Args: exactArgs(0),
		Long: `With --at: what a site knew at that time. Of the site that is asked this is exact to
within a second: what it had written, and what had come in by then. Records that
came in before it noted such times count from when they were written, and are
counted as unsure. Of another site (--site) it is the least that it can have
known: what it had written, and what that builds on; for more ask that site itself.
Counts come first, of all documents however many there are, then documents as they
looked then; --kind and --doc choose.
Records that were set aside in a fork since are not shown.

With --event: what was done about an event and its tasks, in the order of time, and
when each site learnt of it:
  14:03:05      the site says itself that it came in then, or did it
  <14:03:05     it did something then that builds on it: it had it by then
  held          it holds it, as far as its last session says, but nobody here knows since when
  ?             not known here: ask that site
Each site knows when things came in to itself. --peer asks further nodes, --with
reads what was written elsewhere with -o json, and all is put together.

A time is RFC 3339, or how long ago, such as "2h ago".`,
		Example: `  tiermesh review --at "2h ago"
  tiermesh review --at 2026-11-25T14:00:00+08:00 --kind event -o wide
  tiermesh review --at "2h ago" --kind task --doc 0191… -o json
  tiermesh review --event 0191… --peer 10.0.0.7:8080
  tiermesh review --event 0191… -o json > district.json
  tiermesh review --event 0191… --with district.json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (r.event == "") == (r.at == "") {
				return usagef("want one of --at TIME and --event ID; see %s --help", cmd.CommandPath())
			}
			if r.event != "" {
				return g.timeline(cmd, r)
			}
			return g.reviewAt(cmd, r)
		},
	}
	f := cmd.Flags()
	f.StringVar(&r.at, "at", "", `the time: RFC 3339, or such as "2h ago"`)
	f.StringVar(&r.site, "site", "", "whose knowledge; this node's site when left out")
	f.StringVar(&r.q.Kind, "kind", "", "only documents of this kind: event, task, …")
	f.StringVar(&r.q.Doc, "doc", "", "only the document of this name; with --kind")
	f.IntVar(&r.q.Limit, "limit", 50, "how many documents to show; 0 for the counts alone")
	f.BoolVar(&r.all, "all", false, "show every document that was known")
	f.StringVar(&r.q.After, "after", "", "go on behind a page: its next")
	f.StringVar(&r.event, "event", "", "the timeline of this event")
	f.StringArrayVar(&r.peers, "peer", nil, "address of a further node's API to ask, once for each")
	f.StringArrayVar(&r.with, "with", nil, "file that holds what another site said, once for each")
	return cmd
}

// reviewTime reads a time, or how long ago.
func reviewTime(text string, now time.Time) (time.Time, error) {
	if before, ok := strings.CutSuffix(text, " ago"); ok {
		d, err := time.ParseDuration(strings.ReplaceAll(before, " ", ""))
		if err != nil || d < 0 {
			return time.Time{}, usagef("--at %.40q: want such as \"90m ago\"", text)
		}
		return now.Add(-d), nil
	}
	ms, err := parseTime(text)
	if err != nil {
		return time.Time{}, usagef("--at: %v; or such as \"2h ago\"", err)
	}
	return time.UnixMilli(ms), nil
}

func (g *global) reviewAt(cmd *cobra.Command, r reviewFlags) error {
	at, err := reviewTime(r.at, time.Now())
	if err != nil {
		return err
	}
	r.q.Site, r.q.AtMS = tiers.SiteID(r.site), at.UnixMilli()
	if r.q.Limit < 0 {
		return usagef("--limit %d: want 0 or more; --all shows all", r.q.Limit)
	}
	if r.all {
		r.q.Limit = math.MaxInt
	}
	return g.transfer(cmd, func(ctx context.Context, c *api.Client, moved func()) error {
		out, err := wholeReview(r.q, func(q api.ReviewQuery) (api.Review, error) {
			defer moved()
			return c.Review(ctx, q)
		})
		if err != nil {
			return err
		}
		if g.output == "json" {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(out)
		}
		return printReview(cmd.OutOrStdout(), out, g.output == "wide")
	})
}

// reviewPage is how many documents one answer shows at most.
const reviewPage = 1000

// wholeReview asks again and again until it has as many documents as are wanted, and
// has counted all of them: one answer looks at a bounded number. A review that goes on
// behind a page counts nothing.
func wholeReview(q api.ReviewQuery, ask func(api.ReviewQuery) (api.Review, error)) (api.Review, error) {
	want, counting := q.Limit, q.After == ""
	q.Limit = min(want, reviewPage)
	out, err := ask(q)
	if err != nil {
		return out, err
	}
	q.AtMS = out.AtMS
	rest := q
	for rest.After = out.Next; rest.After != "" && len(out.Documents) < want; rest.After = out.Next {
		rest.Limit = min(want-len(out.Documents), reviewPage)
		page, err := ask(rest)
		if err != nil {
			return out, err
		}
		out.Documents, out.Next = append(out.Documents, page.Documents...), page.Next
	}
	if !counting {
		out.Kinds, out.Counted = []api.KindKnown{}, false
		return out, nil
	}
	if out.Counted {
		return out, nil
	}
	kinds := map[string]api.KindKnown{}
	for q.Limit = 0; !out.Counted; {
		page, err := ask(q)
		if err != nil {
			return out, err
		}
		for _, k := range page.Kinds {
			sum := kinds[k.Kind]
			kinds[k.Kind] = api.KindKnown{Kind: k.Kind, Known: sum.Known + k.Known, Changed: sum.Changed + k.Changed, Later: sum.Later + k.Later}
		}
		if out.Counted = page.Counted; !out.Counted && page.Next == "" {
			return out, fmt.Errorf("%w: a page of the review says neither that it is the last nor what comes next", errInput)
		}
		q.After = page.Next
	}
	out.Kinds = nil
	for _, name := range slices.Sorted(maps.Keys(kinds)) {
		out.Kinds = append(out.Kinds, kinds[name])
	}
	return out, nil
}

func printReview(w io.Writer, r api.Review, wide bool) error {
	at := localTime(r.AtMS)
	if r.Basis == api.BasisExact {
		say(w, "site %s at %s: held %s of the %d that it holds now", r.Site, at, count(r.Held, "record"), r.Now)
		if r.Unsure > 0 {
			say(w, "; of %d nobody noted when they came in", r.Unsure)
		}
		sayln(w)
	} else {
		say(w, "site %s at %s, as far as the records at %s prove: it knew at least this; for more ask site %s\n", r.Site, at, r.By, r.Site)
	}
	var rows [][]string
	all := 0
	for _, k := range r.Kinds {
		rows = append(rows, []string{k.Kind, strconv.Itoa(k.Known), strconv.Itoa(k.Changed), strconv.Itoa(k.Later)})
		all += k.Known + k.Later
	}
	if r.Counted {
		if err := table(w, []string{"KIND", "KNOWN", "CHANGED SINCE", "NOT KNOWN"}, rows); err != nil {
			return err
		}
		say(w, "counted: all %s that site %s holds and was asked about\n", count(all, "document"), r.By)
	}
	if wide && r.Counted {
		if err := printAuthors(w, r); err != nil {
			return err
		}
	}
	if rows = nil; len(r.Documents) > 0 {
		sayln(w)
	}
	for _, d := range r.Documents {
		rows = append(rows, []string{string(d.ID), d.Stream, fmt.Sprintf("%d of %d", d.Changes, d.Of), looked(d)})
	}
	if len(rows) > 0 {
		if err := table(w, []string{"DOCUMENT", "STREAM", "CHANGES", "LOOKED LIKE"}, rows); err != nil {
			return err
		}
	}
	if r.Next != "" {
		say(w, "%s shown; more: --after %s, or --all\n", count(len(r.Documents), "document"), r.Next)
	}
	return nil
}

func printAuthors(w io.Writer, r api.Review) error {
	if len(r.Authors) == 0 {
		return nil
	}
	var rows [][]string
	for _, a := range r.Authors {
		rows = append(rows, []string{string(a.Site), strconv.FormatUint(a.Then, 10), strconv.FormatUint(a.Now, 10), strconv.FormatUint(a.Unsure, 10)})
	}
	sayln(w)
	return table(w, []string{"RECORDS OF", "HELD THEN", "HOLDS NOW", "UNSURE"}, rows)
}

// looked is a line of what a document looked like.
func looked(d api.ReviewDocument) string {
	if d.Fault != "" {
		return "no view: " + d.Fault
	}
	var v struct {
		State  string `json:"state"`
		Report struct {
			Title string `json:"title"`
		} `json:"report"`
		Brief struct {
			Title string `json:"title"`
		} `json:"brief"`
		Fields struct {
			Name string `json:"name"`
		} `json:"fields"`
	}
	_ = json.Unmarshal(d.View, &v) // a kind without these shows none
	return strings.Join(strings.Fields(strings.Join([]string{v.State, v.Report.Title, v.Brief.Title, v.Fields.Name}, " ")), " ")
}

// timeline asks each node for the timeline of an event and puts together what they
// say.
func (g *global) timeline(cmd *cobra.Command, r reviewFlags) error {
	var out api.Timeline
	var all []review.Timeline
	for _, file := range r.with {
		b, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("%w: %w", errInput, err)
		}
		var t api.Timeline
		if err := json.Unmarshal(b, &t); err != nil || len(t.Steps) == 0 {
			return fmt.Errorf("%w: %s is not what review --event wrote with -o json", errInput, file)
		}
		if t.Event.Name() != strings.TrimPrefix(r.event, "event:") {
			return fmt.Errorf("%w: %s is of %s", errInput, file, t.Event)
		}
		all = append(all, t.Timeline)
	}
	for i, addr := range append([]string{g.api}, r.peers...) {
		other := *g
		other.api = addr
		err := other.client(cmd, func(ctx context.Context, c *api.Client) error {
			t, err := c.Timeline(ctx, r.event)
			if i == 0 {
				out = t
			}
			all = append(all, t.Timeline)
			return err
		})
		if err != nil {
			return fmt.Errorf("%s: %w", addr, err)
		}
	}
	out.Timeline = review.Merge(all...)
	if g.output == "json" {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(out)
	}
	return printTimeline(cmd.OutOrStdout(), out, g.output == "wide")
}

func printTimeline(w io.Writer, t api.Timeline, wide bool) error {
	say(w, "%s  %s; when things came in is told by: %s\n", t.Event, t.Title, joinSites(t.Asked))
	header := []string{"DONE", "AT", "WHAT"}
	if wide {
		header = append(header, "DOCUMENT", "NOTE")
	}
	for _, s := range t.Sites {
		header = append(header, string(s))
	}
	var rows [][]string
	missing := map[tiers.SiteID]bool{}
	for _, s := range t.Steps {
		row := []string{clockTime(s.AtMS), string(s.By), strings.Join(s.What, ", ")}
		if wide {
			row = append(row, string(s.Doc), dash(strings.Join(strings.Fields(s.Note), " ")))
		}
		for _, site := range t.Sites {
			l := s.Learnt[site]
			if row = append(row, learntText(l)); l.Basis == "" || l.Basis == review.BasisHolds {
				missing[site] = true
			}
		}
		rows = append(rows, row)
	}
	if err := table(w, header, rows); err != nil {
		return err
	}
	var ask []tiers.SiteID
	for _, s := range t.Sites {
		if missing[s] {
			ask = append(ask, s)
		}
	}
	if len(ask) > 0 {
		say(w, "for what is not known here ask: %s\n", joinSites(ask))
	}
	return nil
}

func learntText(l review.Learnt) string {
	switch l.Basis {
	case review.BasisWrote, review.BasisArrived:
		return clockTime(l.AtMS)
	case review.BasisBy:
		return "<" + clockTime(l.AtMS)
	case review.BasisHolds:
		return "held"
	default:
		return "?"
	}
}

func joinSites(sites []tiers.SiteID) string {
	var parts []string
	for _, s := range sites {
		parts = append(parts, string(s))
	}
	return strings.Join(parts, ", ")
}
