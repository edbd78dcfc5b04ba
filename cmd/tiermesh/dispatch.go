package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
	"github.com/tiermesh/tiermesh/tiers/event"
	"github.com/tiermesh/tiermesh/tiers/legible"
)

var ruleColumns = []column{
	{title: "CODE", path: "fields.code"}, {title: "ORDER", path: "fields.order"}, {title: "SITE", path: "site"},
	{title: "ORGAN", path: "fields.organ"}, {title: "LIMIT", path: "fields.limit_amount"}, {title: "UNIT", path: "fields.limit_unit"},
	{title: "SKILL", path: "fields.skill"}, {title: "TYPE", path: "fields.type_prefix", wide: true}, {title: "CATEGORY", path: "fields.category", wide: true},
	{title: "PRIORITY", path: "fields.priority_max", wide: true}, {title: "MODE", path: "fields.mode", wide: true}, {title: "WHEN", path: "fields.when", wide: true},
}

func newDispatch(g *global) *cobra.Command {
	cmd := &cobra.Command{
		Use: "dispatch", Short: "Dispatch rules, and why an event goes where it goes",
		Long: `A rule picks organ, time limit, site, response plan and skill for the events that it
matches; the first that matches decides, by order, then code. "when" is a CEL
expression over:

` + variableLines() + `
km is the great-circle distance. A rule whose expression does not compile, is not
boolean, or may cost too much is refused when it is published. With a skill, the
nearest free unit that has it is claimed for the task.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	rules := subcommand(newList(g, "rule", "rules", ruleColumns), "list")
	rules.Use, rules.Short, rules.Example = "rules", "List the dispatch rules", "  tiermesh dispatch rules -o wide"
	cmd.AddCommand(newExplain(g), newPublishRules(g), rules)
	return cmd
}

func variableLines() string {
	out := ""
	for _, v := range dispatch.Variables() {
		out += "  " + v + "\n"
	}
	return out + "\n" + dispatch.TimeNote + ".\n"
}

func newExplain(g *global) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use: "explain EVENT", Short: "Dry run: which rule matches, and which unit is sent", Args: exactArgs(1),
		Long: `Decides on an event with the rules and units that this site knows now, and says
which rules were tried in which order, which matched, which units were
considered, and why this one and not the others. It writes nothing, and works
with every link cut.

In rules, ` + dispatch.TimeNote + ".",
		Example: "  tiermesh dispatch explain event:0190f1c2-…\n  tiermesh dispatch explain event:0190f1c2-… --all",
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				e, err := c.Explain(ctx, bareName(event.Kind, args[0]))
				if err != nil {
					return err
				}
				if g.output == "json" {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(e)
				}
				return printExplanation(cmd.OutOrStdout(), e, all)
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "also rules that were not tried, and every unit; else 10 of each kind")
	return cmd
}

// explainedMax is how many units are shown without --all.
const explainedMax = 10

func printExplanation(w io.Writer, e api.Explanation, all bool) error {
	say(w, "%s  %s  category %s\nmode: %s\n\n", e.Event, e.State, orDash(e.Category), composed(legible.Lines(standingLine(e.Mode), "  ")))
	var rows [][]string
	for _, r := range e.Rules {
		if r.Outcome == dispatch.TriedNot && !all {
			continue
		}
		rows = append(rows, []string{strconv.Itoa(r.Order), r.Rule, r.Outcome, r.Condition, orDash(r.Why)})
	}
	if err := table(w, []string{"ORDER", "RULE", "OUTCOME", "CONDITION", "WHY NOT"}, rows); err != nil {
		return err
	}
	if d := e.Decision; d != nil {
		say(w, "\ndecided by %s: organ %s, site %s, within %d %s, plan %s, skill %s\n",
			d.Rule, d.Organ, e.Site, d.Limit.Amount, d.Limit.Unit, orDash(d.Plan), orDash(d.Skill))
	}
	if len(e.Units) > 0 {
		sayln(w)
		rows = nil
		for i, u := range e.Units {
			if i >= explainedMax && !all {
				break
			}
			mark, far := "", "-"
			if u.Chosen {
				mark = "*"
			}
			if u.DistanceM != nil {
				far = fmt.Sprintf("%.2f km", *u.DistanceM/1000)
			}
			rows = append(rows, []string{mark, u.Unit.ID, u.Unit.Name, far, u.Why})
		}
		if err := table(w, []string{"", "UNIT", "NAME", "DISTANCE", "WHY"}, rows); err != nil {
			return err
		}
		if n := len(e.Units) - len(rows); n > 0 {
			say(w, "and %d more: --all\n", n)
		}
	}
	for _, n := range e.Notes {
		sayln(w, "note:", n)
	}
	return nil
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func newPublishRules(g *global) *cobra.Command {
	w := &write{g: g}
	r := api.RulesRequest{}
	cmd := &cobra.Command{
		Use: "publish FILE", Short: "Publish dispatch rules from a JSON file, all or none", Args: exactArgs(1),
		Long: `Publishes rules in this site's catalog, for this site and all below it. The file is
a JSON array, such as

  [{"code": "night-fire", "order": 5, "when": "event.category == \"火灾\" && time.hour < 6",
    "organ": "消防救援站", "limit": {"amount": 1, "unit": "urgent_hour"}, "skill": "fire"}]

limit.unit is urgent_hour, hour or day. "mode": "emergency" or "normal" makes a rule
one for that mode; see tiermesh mode. A rule with the code of an earlier one of
this site takes its place. --dry-run checks them and writes nothing.`,
		Example: "  tiermesh dispatch publish rules.json --dry-run\n  tiermesh dispatch publish - < rules.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			in, err := openInput(cmd, args[0])
			if err != nil {
				return err
			}
			defer func() { _ = in.Close() }()
			dec := json.NewDecoder(in)
			dec.DisallowUnknownFields()
			if err := dec.Decode(&r.Rules); err != nil {
				return fmt.Errorf("%w: %s: %w", errInput, args[0], err)
			}
			return submit(w, cmd, func(ctx context.Context, c *api.Client, key string) (api.RulesResult, error) {
				r.Key = key
				return c.PublishRules(ctx, r)
			}, func(x api.RulesResult) string {
				if x.Published {
					return fmt.Sprintf("%s published", count(x.Rules, "rule"))
				}
				return fmt.Sprintf("%s checked, no fault found; nothing was written", count(x.Rules, "rule"))
			})
		},
	}
	cmd.Flags().BoolVar(&r.DryRun, "dry-run", false, "check only")
	w.flag(cmd)
	return cmd
}
