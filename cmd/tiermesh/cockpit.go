package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/aggregate"
)

func newCockpit(g *global) *cobra.Command {
	var q api.OverviewQuery
	var area string
	within := duration(time.Hour)
	cmd := &cobra.Command{
		Use: "cockpit", Short: "What is open and overdue in this site's area, and of how many sites that is known", Args: exactArgs(0),
		Long: `Counts open events and tasks of a site and all below it, by the topology now: a
site that moved to another district is counted there. Numbers come from counters
that are kept up with every change.

Each number of sites says how complete it is: of how many sites it is known as of
a time within --within, and as of when the one that is known least. A site is
known as of the last time that nothing was lacking on the link to it; of a site two
hops away, as of when the one in between is known, unless that said that it is out
of contact itself. Sites that are not covered are named with as of when they are
known. Overdue are tasks whose time limit has run out.

By track, an event counts in the track that the catalog of types names for its type
(catalog import types), or else in the type's board or category.`,
		Example: `  tiermesh cockpit
  tiermesh cockpit --area 500101 --by type
  tiermesh cockpit --by site --within 15m -o wide
  tiermesh cockpit indicator on_time`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q.Area, q.Within = tiers.SiteID(area), time.Duration(within)
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				o, err := c.Overview(ctx, q)
				if err != nil {
					return err
				}
				if g.output == "json" {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(o)
				}
				return printOverview(cmd.OutOrStdout(), o, g.output == "wide")
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&area, "area", "", "a site, with all below it; this node's site when left out")
	f.StringVar(&q.By, "by", api.ByArea, "rows: area, site, track, type or state")
	f.Var(&within, "within", "how recent a site must be known to be covered")
	cmd.AddCommand(newCockpitIndicator(g))
	return cmd
}

func printOverview(w io.Writer, o api.Overview, wide bool) error {
	now := time.UnixMilli(o.AtMS)
	t := o.Total
	say(w, "%s  %s  %s open, %d of them urgent; %s open, %d overdue; %s\n",
		o.Area, o.AreaName, count(t.Events, "event"), t.Urgent, count(t.Tasks, "task"), t.Overdue, coverageText(o.Coverage, now))
	if o.Recounting {
		sayln(w, "counters are being made for the first time: numbers are too low until that is done")
	}
	if o.Behind > 0 {
		say(w, "%s changed and not counted yet\n", count(o.Behind, "document"))
	}
	if o.Elsewhere > 0 {
		say(w, "not counted: %s of sites that ended or moved away\n", count(o.Elsewhere, "open event"))
	}
	title := strings.ToUpper(o.By)
	header := []string{title, "NAME", "EVENTS", "URGENT", "TASKS", "OVERDUE"}
	if wide {
		header = []string{title, "NAME", "EVENTS 事件", "URGENT 紧急", "TASKS 业务事项", "OVERDUE 超期"}
	}
	sites := o.By == api.ByArea || o.By == api.BySite
	if sites {
		header = append(header, "COVERAGE")
	}
	var rows [][]string
	for _, r := range o.Rows {
		urgent := strconv.FormatInt(r.Urgent, 10)
		if o.By == api.ByType || o.By == api.ByTrack {
			urgent = "-"
		}
		row := []string{r.Key, dash(r.Name), strconv.FormatInt(r.Events, 10), urgent, strconv.FormatInt(r.Tasks, 10), strconv.FormatInt(r.Overdue, 10)}
		if sites && r.Coverage != nil {
			row = append(row, coverageText(*r.Coverage, now))
		}
		rows = append(rows, row)
	}
	if err := table(w, header, rows); err != nil || !wide {
		return err
	}
	return printMissing(w, o.Coverage, now)
}

// coverageText is such as "5 of 6 sites, oldest data 43m0s".
func coverageText(c aggregate.Coverage, now time.Time) string {
	text := fmt.Sprintf("%d of %s", c.Covered, count(c.Sites, "site"))
	if c.OldestMS > 0 {
		text += ", oldest data " + now.Sub(time.UnixMilli(c.OldestMS)).Round(time.Second).String()
	}
	return text
}

// printMissing names the sites that are not covered.
func printMissing(w io.Writer, c aggregate.Coverage, now time.Time) error {
	if len(c.Missing) == 0 {
		return nil
	}
	var rows [][]string
	for _, m := range c.Missing {
		at, age := "never", "-"
		if m.KnownMS > 0 {
			at, age = clockTime(m.KnownMS), now.Sub(time.UnixMilli(m.KnownMS)).Round(time.Second).String()
		}
		rows = append(rows, []string{string(m.Site), at, age})
	}
	sayln(w)
	if err := table(w, []string{"NOT COVERED", "KNOWN AS OF", "AGE"}, rows); err != nil {
		return err
	}
	if more := c.Sites - c.Covered - len(c.Missing); more > 0 {
		say(w, "and %d more\n", more)
	}
	return nil
}

func newCockpitIndicator(g *global) *cobra.Command {
	var area string
	within := duration(time.Hour)
	cmd := &cobra.Command{
		Use: "indicator CODE", Short: "Add up the last values of an indicator over an area", Args: exactArgs(1),
		Long: `Takes the last value of each series of the indicator at each site of the area:
sum, mean, least and greatest, and how many values are of each grade. It says how
many sites report, and of how many of these it is known that nothing newer is
lacking here.`,
		Example: "  tiermesh cockpit indicator on_time\n  tiermesh cockpit indicator on_time --area 500101 -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				r, err := c.RollUp(ctx, api.RollUpQuery{Area: tiers.SiteID(area), Code: args[0], Within: time.Duration(within)})
				if err != nil {
					return err
				}
				if g.output == "json" {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(r)
				}
				return printRollUp(cmd.OutOrStdout(), r)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&area, "area", "", "a site, with all below it; this node's site when left out")
	f.Var(&within, "within", "how recent a site must be known to be covered")
	return cmd
}

func printRollUp(w io.Writer, r api.RollUp) error {
	now := time.UnixMilli(r.AtMS)
	say(w, "%s  %s  %s  defined by %s; %d series at %s report; %s\n", r.Code, r.Name, dash(r.Unit), r.DefinedBy, r.Series, count(r.Reporting, "site"), coverageText(r.Coverage, now))
	if r.Series == 0 {
		return nil
	}
	say(w, "sum %v, mean %v, least %v, greatest %v, oldest value %s\n", r.Sum, r.Mean, r.Min, r.Max, clockTime(r.OldestMS))
	var names []string
	for name := range r.Grades {
		names = append(names, name)
	}
	slices.Sort(names)
	var rows [][]string
	for _, name := range names {
		rows = append(rows, []string{dash(name), strconv.Itoa(r.Grades[name])})
	}
	return table(w, []string{"GRADE", "SERIES"}, rows)
}
