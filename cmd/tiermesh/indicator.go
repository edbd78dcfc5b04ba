package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/indicator"
)

var indicatorColumns = []column{
	{title: "CODE", path: "fields.code", wide: false}, {title: "NAME", path: "fields.name", wide: false}, {title: "KIND", path: "fields.kind", wide: false}, {title: "UNIT", path: "fields.unit", wide: false},
	{title: "SITE", path: "site", wide: false}, {title: "MIN", path: "fields.min", wide: true}, {title: "MAX", path: "fields.max", wide: true}, {title: "MISSING", path: "fields.missing", wide: true}, {title: "GRADES", path: "fields.grades", wide: true}, {title: "LEVELS", path: "fields.levels", wide: true},
	{title: "READING DAYS", path: "fields.reading_days", wide: true}, {title: "MINUTE DAYS", path: "fields.minute_days", wide: true}, {title: "CONFLICTS", path: "conflicts", wide: false},
}

func newIndicator(g *global) *cobra.Command {
	cmd := newList(g, "indicator", "indicators", indicatorColumns)
	cmd.Short = "Define, list and show KPIs and vital signs"
	cmd.Long = `An indicator is a KPI, whose values are graded against targets, or a vital sign,
whose values are watched against thresholds. Definitions flow down from the site
that makes them; readings flow up. A crossing of a threshold becomes an event at
the site where the reading came in, with the priority that the level says.`
	for _, sub := range cmd.Commands() {
		if sub.Name() == "show" { // an indicator has more to show than its document
			cmd.RemoveCommand(sub)
		}
	}
	cmd.AddCommand(newIndicatorDefine(g), newIndicatorShow(g))
	return cmd
}

func newIndicatorDefine(g *global) *cobra.Command {
	var d indicator.Definition
	var key, file string
	var levels, grades, missing []string
	confirm := false
	cmd := &cobra.Command{
		Use: "define", Short: "Define an indicator in this site's catalog, or change it", Args: exactArgs(0),
		Long: `Defines an indicator from flags, or several from a file of JSON lines, each a
definition as -o json of "indicator show" has it under "indicator". Defining a
code again replaces what it said. A code that a site above defines cannot be
defined again here.

A level is NAME followed by >= or <= and the threshold, then what differs from the
defaults: clear, the value at which the alarm ends; for, how long the value must
have been there; priority of the event, 1 to 4; type, the event's type code. Give
the least severe level first. A grade is NAME, >= or <=, and its target, the best
first.

A value below --min or above --max is no measurement: it is kept as missing, with
what the source wrote, and neither raises an alert nor enters a mean. The same
holds for what a source writes where it has no value, a mark: --missing MARK, or
MARK=REASON. A mark that is a number stands for every way to write it, and an empty
one for an empty field. Numbers that were taken in before are judged by what the
definition says now.`,
		Example: `  tiermesh indicator define --code water_level --name 水位 --kind vital --unit m \
    --level 'yellow>=3,clear=2.8,priority=3' --level 'red>=3.5,clear=3.2,for=5m,priority=1' \
    --min 0 --max 20 --missing -9999 --missing NA --missing M=maintenance
  tiermesh indicator define --code on_time --name 按时办结率 --kind kpi --unit % --grade 'good>=95' --grade 'fair>=85'`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			keyOr(&key)
			if file != "" {
				return g.defineFile(cmd, file, key, confirm)
			}
			d.Missing = parseMarks(missing)
			for _, text := range levels {
				l, err := parseLevel(text)
				if err != nil {
					return usagef("--level %q: %v", text, err)
				}
				d.Levels = append(d.Levels, l)
			}
			for _, text := range grades {
				name, op, limit, rest, err := parseStep(text)
				if err != nil || len(rest) > 0 {
					return usagef("--grade %q: want one such as good>=95", text)
				}
				d.Grades = append(d.Grades, indicator.Grade{Name: name, Op: op, Target: limit})
			}
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				return g.define(ctx, cmd, c, api.IndicatorRequest{Key: key, Indicator: d, Confirm: confirm})
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&key, "key", "", "idempotency key; made up when left out")
	f.BoolVar(&confirm, "confirm", false, "write also what is so already, as confirmed now; see tiermesh track edit")
	f.StringVar(&file, "file", "", "file of JSON lines, or - for standard input")
	f.StringVar(&d.Code, "code", "", "code, that of its series")
	f.StringVar(&d.Name, "name", "", "name")
	f.StringVar(&d.Kind, "kind", indicator.Vital, "kpi or vital")
	f.StringVar(&d.Unit, "unit", "", "unit of the values")
	f.Var(optionalNumber{&d.Min}, "min", "least value; a smaller one is kept as missing")
	f.Var(optionalNumber{&d.Max}, "max", "greatest value; a greater one is kept as missing")
	f.StringArrayVar(&missing, "missing", nil, "MARK or MARK=REASON: what sources write for no value, once for each")
	f.StringArrayVar(&levels, "level", nil, "level of a vital sign, once for each")
	f.StringArrayVar(&grades, "grade", nil, "grade of a KPI, once for each")
	f.IntVar(&d.ReadingDays, "reading-days", 0, "for how many days readings are kept; 0 for 31")
	f.IntVar(&d.MinuteDays, "minute-days", 0, "for how many days minute rollups are kept; 0 for 400")
	return cmd
}

func (g *global) define(ctx context.Context, cmd *cobra.Command, c *api.Client, r api.IndicatorRequest) error {
	w, err := c.DefineIndicator(ctx, r)
	if err != nil {
		return err
	}
	if g.output == "json" {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(w)
	}
	_, err = say(cmd.OutOrStdout(), "%s  %s  %d\n", w.ID, w.Stream, w.Seq)
	return err
}

// defineFile defines one indicator a JSON value; a bad one is named and left out.
func (g *global) defineFile(cmd *cobra.Command, file, key string, confirm bool) error {
	in, err := openInput(cmd, file)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	dec := json.NewDecoder(in)
	dec.DisallowUnknownFields()
	return g.client(cmd, func(ctx context.Context, c *api.Client) error {
		bad := 0
		for n := 1; dec.More(); n++ {
			var d indicator.Definition
			if err := dec.Decode(&d); err != nil {
				return fmt.Errorf("%w: definition %d: %w", errInput, n, err)
			}
			err := g.define(ctx, cmd, c, api.IndicatorRequest{Key: fmt.Sprintf("%s:%d", key, n), Indicator: d, Confirm: confirm})
			if code := exitCode(err); err != nil && code != exitInvalid && code != exitRejected {
				return fmt.Errorf("definition %d: %w", n, err)
			}
			if err != nil {
				bad++
				say(cmd.ErrOrStderr(), "definition %d left out: %v\n", n, err)
			}
		}
		if bad > 0 {
			return fmt.Errorf("%w: %s left out", errInput, count(bad, "definition"))
		}
		return nil
	})
}

// parseStep reads NAME>=LIMIT, or with <=, and what follows behind commas.
func parseStep(text string) (name, op string, limit float64, rest []string, err error) {
	parts := strings.Split(text, ",")
	for _, op = range []string{indicator.AtLeast, indicator.AtMost} {
		left, right, ok := strings.Cut(parts[0], op)
		if ok {
			limit, err = strconv.ParseFloat(right, 64)
			return left, op, limit, parts[1:], err
		}
	}
	return "", "", 0, nil, fmt.Errorf("want one such as red>=3.5,clear=3.2,for=5m,priority=1,type=01001")
}

// parseMarks reads MARK, or MARK=REASON.
func parseMarks(texts []string) (out []indicator.Mark) {
	for _, text := range texts {
		mark, reason, _ := strings.Cut(text, "=")
		out = append(out, indicator.Mark{Mark: mark, Reason: reason})
	}
	return out
}

func parseLevel(text string) (indicator.Level, error) {
	name, op, limit, rest, err := parseStep(text)
	l := indicator.Level{Name: name, Op: op, Threshold: limit, Priority: 3}
	for _, part := range rest {
		field, value, _ := strings.Cut(part, "=")
		var bad error
		switch field {
		case "clear":
			var v float64
			v, bad = strconv.ParseFloat(value, 64)
			l.Clear = &v
		case "for":
			var v time.Duration
			v, bad = time.ParseDuration(value)
			l.ForS = int(v / time.Second)
		case "priority":
			l.Priority, bad = strconv.Atoi(value)
		case "type":
			l.EventType = value
		default:
			bad = fmt.Errorf("unknown field %q: want clear, for, priority or type", field)
		}
		if bad != nil && err == nil {
			err = bad
		}
	}
	return l, err
}

func newIndicatorShow(g *global) *cobra.Command {
	var site string
	cmd := &cobra.Command{
		Use: "show CODE", Short: "Show an indicator and its series at a site", Args: exactArgs(1),
		Long: `Shows the definition that holds at a site and each of its series: the last
value, the grade of a KPI, and the level that a vital sign is at.`,
		Example: "  tiermesh indicator show water_level\n  tiermesh indicator show water_level --site 500101001 -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				s, err := c.IndicatorState(ctx, tiers.SiteID(site), strings.TrimPrefix(args[0], indicator.KindIndicator+":"))
				if err != nil {
					return err
				}
				if g.output == "json" {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(s)
				}
				return printIndicator(cmd.OutOrStdout(), s)
			})
		},
	}
	cmd.Flags().StringVar(&site, "site", "", "whose series; this node's site when left out")
	return cmd
}

func printIndicator(w io.Writer, s api.IndicatorState) error {
	d := s.Indicator
	say(w, "%s  %s  %s  %s  defined by %s\n", d.Code, d.Name, d.Kind, dash(d.Unit), s.DefinedBy)
	for _, x := range d.Grades {
		say(w, "grade %s: %s %v\n", x.Name, x.Op, x.Target)
	}
	for _, l := range d.Levels {
		say(w, "level %s: %s %v", l.Name, l.Op, l.Threshold)
		if l.ForS > 0 {
			say(w, " for %s", time.Duration(l.ForS)*time.Second)
		}
		if l.Clear != nil {
			say(w, ", ends at %v", *l.Clear)
		}
		say(w, ", event of priority %d\n", l.Priority)
	}
	if d.Min != nil || d.Max != nil {
		say(w, "values %s\n", rangeText(d.Min, d.Max))
	}
	for _, m := range d.Missing {
		say(w, "missing %q: %s\n", m.Mark, cmp.Or(m.Reason, indicator.NoValue))
	}
	say(w, "readings are kept for %s, minutes for %d\n", count(d.ReadingDays, "day"), d.MinuteDays)
	if s.Late > 0 {
		say(w, "%s came too late\n", count(s.Late, "reading"))
	}
	var rows [][]string
	for _, x := range s.Series {
		level := "-"
		if x.Level != nil {
			level = x.Level.Name + " since " + clockTime(x.Level.StartMS)
		}
		last, value, missing := "-", "-", "-"
		if x.Value != nil {
			last, value = clockTime(x.LastMS), fmt.Sprint(*x.Value)
		}
		if x.Missing != nil {
			missing = clockTime(x.Missing.AtMS) + " " + gapText(*x.Missing)
		}
		rows = append(rows, []string{x.Series, last, value, dash(x.Grade), level, strconv.Itoa(x.Alerts), missing})
	}
	return table(w, []string{"SERIES", "LAST", "VALUE", "GRADE", "LEVEL", "ALERTS", "MISSING"}, rows)
}

// rangeText says which values an indicator has.
func rangeText(low, high *float64) string {
	switch {
	case low == nil:
		return fmt.Sprintf("up to %v", *high)
	case high == nil:
		return fmt.Sprintf("from %v", *low)
	}
	return fmt.Sprintf("from %v to %v", *low, *high)
}

// optionalNumber is a number that a flag sets; nil when it is left out.
type optionalNumber struct{ into **float64 }

func (o optionalNumber) String() string { return "" }

func (o optionalNumber) Set(s string) error {
	v, err := strconv.ParseFloat(s, 64)
	*o.into = &v
	return err
}

func (o optionalNumber) Type() string { return "number" }
