package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/api"
	series "github.com/tiermesh/tiermesh/crdt/reading"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/instant"
)

func newReading(g *global) *cobra.Command {
	cmd := &cobra.Command{
		Use: "reading", Short: "Import and show readings of series",
		Long: `A reading is a value of a series at a time. A series is CODE or CODE/INSTANCE,
where CODE is that of an indicator: water_level/gaochao-1.

Readings may come late and in any order, and twice: of several for one time the
one that was written last counts, and rollups follow. They go up to the sites
above behind everything else; a crossing of a threshold becomes an event at once.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newReadingImport(g), newReadingShow(g))
	return cmd
}

func newReadingShow(g *global) *cobra.Command {
	var from, to, site string
	q := api.ReadingsQuery{}
	cmd := &cobra.Command{
		Use: "show SERIES", Short: "Show readings of a series, or their rollups", Args: exactArgs(1),
		Long: `Shows the readings of a series, or count, mean, min, max and last by the minute,
hour or day; days begin at midnight, UTC+8. A reading without a value is shown with
the reason and what the source wrote; rollups count it as missing. Readings older than the indicator's
limits are dropped, and their rollups stay: a line at the end says so.`,
		Example: "  tiermesh reading show water_level/1 --by raw --from 2026-11-25 --limit 20\n  tiermesh reading show water_level/1 --by day --site 500101001",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			q.Series, q.Site, q.FromMS, q.ToMS = args[0], tiers.SiteID(site), 0, series.TimeMaxMS
			for _, x := range []struct {
				flag, text string
				into       *int64
			}{{"from", from, &q.FromMS}, {"to", to, &q.ToMS}} {
				if x.text != "" {
					if *x.into, err = instant.Milliseconds(x.text); err != nil {
						return usagef("--%s: %v", x.flag, err)
					}
				}
			}
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				page, err := c.Readings(ctx, q)
				if err != nil {
					return err
				}
				return g.printReadings(cmd.OutOrStdout(), page)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&from, "from", "", "first time to show; the beginning when left out")
	f.StringVar(&to, "to", "", "time before which to end; the end when left out")
	f.StringVar(&q.By, "by", api.ByHour, "raw, minute, hour or day")
	f.StringVar(&site, "site", "", "whose series; this node's site when left out")
	f.IntVar(&q.Limit, "limit", 1000, "how many lines to show at most, up to 10000")
	return cmd
}

// rawRows are points and gaps in the order of time.
func rawRows(p api.ReadingsPage) (rows [][]string) {
	gaps := p.Missing
	gap := func() {
		rows = append(rows, []string{clockTime(gaps[0].AtMS), "-", gapText(gaps[0])})
		gaps = gaps[1:]
	}
	for _, x := range p.Points {
		for len(gaps) > 0 && gaps[0].AtMS < x.AtMS {
			gap()
		}
		rows = append(rows, []string{clockTime(x.AtMS), fmt.Sprint(x.Value), "-"})
	}
	for len(gaps) > 0 {
		gap()
	}
	return rows
}

// gapText says why there is no value, and what the source wrote.
func gapText(g series.Gap) string { return fmt.Sprintf("%s (%q)", g.Reason, g.Text) }

func (g *global) printReadings(w io.Writer, p api.ReadingsPage) error {
	if g.output == "json" {
		return json.NewEncoder(w).Encode(p)
	}
	header, rows := []string{"TIME", "VALUE", "MISSING"}, rawRows(p)
	if p.By != api.ByRaw {
		header = []string{"FROM", "COUNT", "MEAN", "MIN", "MAX", "LAST", "MISSING"}
	}
	for _, r := range p.Rollups {
		row := []string{clockTime(r.StartMS), "0", "-", "-", "-", "-", fmt.Sprint(r.Missing)}
		if r.Count > 0 {
			row = append(row[:1], fmt.Sprint(r.Count), fmt.Sprintf("%.6g", r.Mean()), fmt.Sprint(r.Min), fmt.Sprint(r.Max), fmt.Sprint(r.Last), row[6])
		}
		rows = append(rows, row)
	}
	if err := table(w, header, rows); err != nil {
		return err
	}
	if p.ReadingsFromMS > 0 {
		fmt.Fprintf(w, "readings before %s are dropped, %d came too late; rollups stay\n", clockTime(p.ReadingsFromMS), p.Late)
	}
	if p.NextMS > 0 {
		fmt.Fprintf(w, "more: --from %d\n", p.NextMS)
	}
	return nil
}
