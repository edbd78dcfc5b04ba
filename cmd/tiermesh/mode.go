package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/command"
)

// modeNames are the Chinese terms of the modes, for -o wide.
var modeNames = map[string]string{command.ModeNormal: "平时", command.ModeEmergency: "急时"}

func newMode(g *global) *cobra.Command {
	cmd := &cobra.Command{
		Use: "mode", Short: "Switch an area to emergency and back (平急转换)",
		Long: `A site is in emergency as long as it, or a site above it, holds one for an area that
it is in; the most severe level counts. Only who declared an emergency lifts it: a
township that is cut off can declare its own, and cannot lift the city's.

From when a site has heard of a switch, it dispatches by it: rules can be for one mode
("mode" in the rule, or mode and level in its expression), and with --hours urgent all
time limits count round the clock. Tasks that went out before keep their limits.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newModeSet(g), newModeShow(g), newModeHistory(g))
	return cmd
}

func newModeSet(g *global) *cobra.Command {
	var r api.ModeRequest
	var area string
	w := &write{g: g}
	cmd := &cobra.Command{
		Use: "set emergency|normal", Short: "Declare an emergency for an area, or lift this site's own", Args: exactArgs(1),
		Example: "  tiermesh mode set emergency --area 500101 --level 2 --hours urgent --reason 长江洪峰过境\n  tiermesh mode set normal --area 500101 --reason 洪峰已过",
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Mode, r.Area = args[0], tiers.SiteID(area)
			if r.Mode == command.ModeNormal && !cmd.Flags().Changed("level") {
				r.Level = 0
			}
			return submit(w, cmd, func(ctx context.Context, c *api.Client, key string) (api.ModeResult, error) {
				r.Key = key
				return c.SwitchMode(ctx, r)
			}, func(m api.ModeResult) string { return standingLine(m.Standing) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&area, "area", "", "a site with all below it; this node's when left out")
	f.IntVar(&r.Level, "level", command.LevelMin, "1 (most severe) to 4")
	f.StringVar(&r.Hours, "hours", "", "urgent: all time limits count round the clock (紧急工作时)")
	f.StringVar(&r.Reason, "reason", "", "why, for the record")
	f.StringVar(&r.Who, "who", "", "the person who decides it")
	w.flag(cmd)
	require(cmd, "reason")
	return cmd
}

func standingLine(s command.Standing) string {
	out := fmt.Sprintf("%s  %s", s.Site, s.Mode)
	if s.Level != 0 {
		out += fmt.Sprintf("  level %d", s.Level)
	}
	if s.Hours != "" {
		out += "  hours " + s.Hours
	}
	for _, h := range s.Holding {
		out += fmt.Sprintf("\nheld by %s for %s, level %d, since %s: %s", h.By, h.Area, h.Level, stamp(h.At.Millis()), h.Reason)
	}
	return out
}

func newModeShow(g *global) *cobra.Command {
	var site string
	cmd := &cobra.Command{
		Use: "show", Short: "Show a site's mode, as far as this one has heard, and who holds it", Args: exactArgs(0),
		Example: "  tiermesh mode show\n  tiermesh mode show --site 500101001",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				s, err := c.Mode(ctx, tiers.SiteID(site))
				if err != nil {
					return err
				}
				line := standingLine(s)
				if g.output == "wide" {
					line = strings.Replace(line, s.Mode, s.Mode+" "+modeNames[s.Mode], 1)
				}
				return g.answer(cmd.OutOrStdout(), s, line)
			})
		},
	}
	cmd.Flags().StringVar(&site, "site", "", "this node's when left out")
	return cmd
}

func newModeHistory(g *global) *cobra.Command {
	var site string
	cmd := &cobra.Command{
		Use: "history", Short: "List the switches that this site has heard of, the latest first", Args: exactArgs(0),
		Example: "  tiermesh mode history --site 500101001",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				h, err := c.ModeHistory(ctx, tiers.SiteID(site))
				if err != nil {
					return err
				}
				if g.output == "json" {
					return jsonLines(cmd.OutOrStdout(), h.Switches)
				}
				var rows [][]string
				for _, s := range h.Switches {
					level := "-"
					if s.Level > 0 {
						level = fmt.Sprint(s.Level)
					}
					rows = append(rows, []string{stamp(s.At.Millis()), string(s.By), string(s.Area), s.Mode, level, orDash(s.Hours), orDash(s.Who), s.Reason})
				}
				return table(cmd.OutOrStdout(), []string{"AT", "BY", "AREA", "MODE", "LEVEL", "HOURS", "WHO", "REASON"}, rows)
			})
		},
	}
	cmd.Flags().StringVar(&site, "site", "", "only switches that reach this site")
	return cmd
}

func newSilence(g *global) *cobra.Command {
	cmd := &cobra.Command{
		Use: "silence", Short: "Which sites below are not heard (失联), and after which time that is an alert",
		Long: `A site is heard while a link to it is up, or by records that it wrote. One that is not
heard for its limit is silent: an alert stands until it is heard again. A parent
raises it for its children; a site further up does while the parent is silent as well,
and shows behind whom it is. Limits: 15 min for a township and 5 min for a district,
unless a site above says otherwise.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	alerts := newList(g, "silence", "silences", []column{
		{title: "ID", path: "id"}, {title: "SITE", path: "alert.site"}, {title: "BY", path: "alert.by"}, {title: "OPEN", path: "open"},
		{title: "SINCE", path: "alert.since_ms"}, {title: "RAISED", path: "raised_ms"}, {title: "CLEARED", path: "cleared_ms"},
		{title: "BEHIND", path: "alert.behind"}, {title: "EVENT", path: "alert.event"},
	})
	list := subcommand(alerts, "list")
	list.Use, list.Short, list.Example = "alerts", "List the alerts that were raised, the newest first, also those that have ended", "  tiermesh silence alerts"
	cmd.AddCommand(newSilenceList(g), newSilenceSet(g), list)
	return cmd
}

func newSilenceList(g *global) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "list", Short: "List the sites below that are silent, and what is known of them", Args: exactArgs(0),
		Long: `NEWEST is the newest record of each class that the site wrote: what this site shows of
it is as old as that. TASKS are open ones that it has custody of, UNITS those whose
home it is, EVENTS its undispatched ones.`,
		Example: "  tiermesh silence list\n  tiermesh silence list --all -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				r, err := c.Silence(ctx, all)
				if err != nil {
					return err
				}
				if g.output == "json" {
					return jsonLines(cmd.OutOrStdout(), []api.SilenceReport{r})
				}
				return printSilence(cmd.OutOrStdout(), r)
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "also sites that are heard")
	return cmd
}

func printSilence(to io.Writer, r api.SilenceReport) error {
	say(to, "%d of %s are silent; listening since %s\n\n", r.Silent, count(r.Sites, "site"), stamp(r.SinceMS))
	var rows [][]string
	for _, s := range r.Rows {
		contact := stamp(s.Contact.AtMS)
		if s.Contact.How != "" {
			contact += " by " + s.Contact.How
		}
		if s.Contact.Live {
			contact = "link is up"
		}
		var newest []string
		for _, class := range tiers.Classes() {
			if at, ok := s.Stale.NewestMS[class.String()]; ok {
				newest = append(newest, class.String()+" "+localTime(at))
			}
		}
		rows = append(rows, []string{
			string(s.Site), orDash(s.Name), s.Tier, s.State, contact, span(s.SilentMS), span(s.LimitMS), orDash(string(s.Behind)), string(s.By),
			fmt.Sprint(s.Stale.Tasks), fmt.Sprint(s.Stale.Units), fmt.Sprint(s.Stale.Events), orDash(strings.Join(newest, ", ")),
		})
	}
	return table(to, []string{"SITE", "NAME", "TIER", "STATE", "LAST CONTACT", "SILENT FOR", "LIMIT", "BEHIND", "BY", "TASKS", "UNITS", "EVENTS", "NEWEST"}, rows)
}

func newSilenceSet(g *global) *cobra.Command {
	var l command.Limit
	var site, tier string
	var after time.Duration
	w := &write{g: g}
	cmd := &cobra.Command{
		Use: "set", Short: "Set after which time a site, or all of a tier, is silent, and whether that opens an event", Args: exactArgs(0),
		Long: `A limit is for the sites below this one. One for the site itself goes before one for
its tier; of several the highest site's holds. --after 0 takes it back. --event is the
priority of the event that a silence opens; a silent site behind another one opens none.`,
		Example: "  tiermesh silence set --tier township --after 10m --event 2\n  tiermesh silence set --site 500101001 --after 1h",
		RunE: func(cmd *cobra.Command, _ []string) error {
			l.Site, l.AfterMS = tiers.SiteID(site), after.Milliseconds()
			if tier != "" {
				if err := l.Tier.UnmarshalText([]byte(tier)); err != nil {
					return usagef("--tier %q: want district or township", tier)
				}
			}
			return submit(w, cmd, func(ctx context.Context, c *api.Client, key string) (api.WriteResult, error) {
				return c.SetSilence(ctx, key, l)
			}, func(r api.WriteResult) string { return fmt.Sprintf("%s  %s", r.ID, r.Stream) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&site, "site", "", "a site below this one")
	f.StringVar(&tier, "tier", "", "instead of a site: district or township")
	f.DurationVar(&after, "after", 0, "such as 15m; 0 takes the limit back")
	f.IntVar(&l.Event, "event", 0, "priority of the event that a silence opens, 1 to 4; 0 for none")
	w.flag(cmd)
	require(cmd, "after")
	return cmd
}
