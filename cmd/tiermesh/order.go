package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/command"
	"github.com/tiermesh/tiermesh/tiers/legible"
)

func newOrder(g *global) *cobra.Command {
	cmd := &cobra.Command{
		Use: "order", Short: "Give orders (指令) to sites below, and see how far they are",
		Long: `An order goes from a site to sites below it: one, a tier, or an area. At each of
them it is issued, delivered (by itself, when the target holds it), acknowledged,
executed; or refused, with a reason. Each step is a record with its time, so that
after a cut everybody sees what happened when. The one that is not delivered shows
with its age. The issuer can take an order back or ask again; that reaches the
target as the order did, and one that was carried out by then is shown as such.

  at the issuer:  issue, list, show, remind, cancel
  at the target:  inbox, ack, execute, refuse, report`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newOrderIssue(g), newOrderList(g), newOrderInbox(g), newOrderShow(g))
	for _, v := range orderVerbs {
		cmd.AddCommand(newOrderVerb(g, v))
	}
	return cmd
}

func newOrderIssue(g *global) *cobra.Command {
	var r api.OrderRequest
	var within duration
	w := &write{g: g}
	cmd := &cobra.Command{
		Use: "issue", Short: "Give an order to sites below this one", Args: exactArgs(0),
		Long: `--to is one of these, or a list with commas:
  500101001        a site
  tier:township    all sites of a tier
  area:500101      a site and all below it
The targets are those of the topology now; order show tells which came or went since.`,
		Example: "  tiermesh order issue --to tier:township --title 全面巡查堤防 --within 6h\n  tiermesh order issue --to area:500101 --title 转移低洼地带群众 --text 按预案二级 --who 值班长",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if within > 0 {
				r.DeadlineMS = time.Now().Add(time.Duration(within)).UnixMilli()
			}
			return submit(w, cmd, func(ctx context.Context, c *api.Client, key string) (api.OrderResult, error) {
				r.Key = key
				return c.IssueOrder(ctx, r)
			}, func(o api.OrderResult) string { return fmt.Sprintf("%s  %s", o.ID, count(len(o.Targets), "target")) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&r.To, "to", "", "whom it is for")
	f.StringVar(&r.Title, "title", "", "what is to be done, in a line")
	f.StringVar(&r.Text, "text", "", "the order in full")
	f.StringVar(&r.Who, "who", "", "the person who gives it")
	f.Var(&within, "within", "the deadline from now, such as 6h")
	w.flag(cmd)
	require(cmd, "to", "title")
	return cmd
}

// stamp is a time in a table, a dash for none.
func stamp(ms int64) string {
	if ms == 0 {
		return "-"
	}
	return localTime(ms)
}

// span is a duration in a table, a dash for none.
func span(ms int64) string {
	if ms == 0 {
		return "-"
	}
	d := time.Duration(ms) * time.Millisecond
	if d >= time.Second {
		d = d.Round(time.Second)
	}
	return d.String()
}

// orderStates are the Chinese terms of the states, for -o wide.
var orderStates = map[string]string{
	command.StateIssued: "已下达", command.StateDelivered: "已送达", command.StateAcknowledged: "已签收",
	command.StateExecuted: "已执行", command.StateRefused: "已拒绝", command.StateCancelled: "已撤销",
}

func newOrderList(g *global) *cobra.Command {
	var q api.ReceiptQuery
	var site string
	var l listing
	cmd := &cobra.Command{
		Use: "list", Short: "List orders, or the targets that have not got, or not done, theirs", Args: exactArgs(0),
		Long: `Without conditions: orders, the newest first, each with how many of its targets are
how far. With one: a line for each target that meets it. --undelivered shows for how
long the order has been on its way, by which site it goes, and when that one was last
heard of. States: ` + strings.Join(command.States(), ", ") + ".",
		Example: "  tiermesh order list\n  tiermesh order list --undelivered\n  tiermesh order list --overdue -o json\n  tiermesh order list --state refused --site 500101001",
		RunE: func(cmd *cobra.Command, _ []string) error {
			q.Site = tiers.SiteID(site)
			targets := q.Undelivered || q.Overdue || q.State != "" || q.Site != ""
			return g.lists(cmd, &l, func(ctx context.Context, c *api.Client) error {
				if targets {
					rows, err := receipts(ctx, c, q, &l)
					if err != nil {
						return err
					}
					return l.end(cmd, g.printTargets(cmd.OutOrStdout(), rows, true))
				}
				rows, err := orders(ctx, c, &l)
				if err != nil {
					return err
				}
				return l.end(cmd, g.printOrders(cmd.OutOrStdout(), rows))
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&site, "site", "", "only this target")
	f.StringVar(&q.State, "state", "", "only targets at which the order is in this state")
	f.BoolVar(&q.Undelivered, "undelivered", false, "only what is not known to be delivered, the oldest first")
	f.BoolVar(&q.Overdue, "overdue", false, "only what is open after its deadline")
	l.flags(cmd)
	return cmd
}

// receipts reads pages of orders at single targets.
func receipts(ctx context.Context, c *api.Client, q api.ReceiptQuery, l *listing) ([]api.TargetRow, error) {
	return pages(l, pageMax, func(limit int, after string) ([]api.TargetRow, string, error) {
		q.Limit, q.After = limit, after
		page, err := c.ListReceipts(ctx, q)
		return page.Items, page.Next, err
	})
}

// orders reads pages of orders; each is counted over all its targets.
func orders(ctx context.Context, c *api.Client, l *listing) ([]api.OrderRow, error) {
	return pages(l, 100, func(limit int, after string) ([]api.OrderRow, string, error) {
		page, err := c.ListOrders(ctx, api.ListQuery{Limit: limit, After: after})
		return page.Items, page.Next, err
	})
}

func (g *global) printOrders(to io.Writer, rows []api.OrderRow) error {
	if g.output == "json" {
		return jsonLines(to, rows)
	}
	header := []string{"ID", "ISSUED", "TO", "TARGETS", "DELIVERED", "ACKNOWLEDGED", "EXECUTED", "REFUSED", "TITLE"}
	if g.output == "wide" {
		header = append(header, "ISSUER", "DEADLINE", "CANCELLED")
	}
	var out [][]string
	for _, r := range rows {
		c := r.Counts
		row := []string{string(r.ID), stamp(r.Brief.IssuedAtMS), r.Brief.To, fmt.Sprint(c.Targets), fmt.Sprint(c.Delivered), fmt.Sprint(c.Acknowledged), fmt.Sprint(c.Executed), fmt.Sprint(c.Refused), r.Brief.Title}
		if g.output == "wide" {
			row = append(row, string(r.Site), stamp(r.Brief.DeadlineMS), stamp(r.CancelledMS))
		}
		out = append(out, row)
	}
	return table(to, header, out)
}

// jsonLines writes each value as a line of JSON.
func jsonLines[T any](to io.Writer, rows []T) error {
	enc := json.NewEncoder(to)
	enc.SetEscapeHTML(false)
	for _, r := range rows {
		if err := enc.Encode(r); err != nil {
			return err
		}
	}
	return nil
}

// printTargets writes orders at single targets; which one of each, where they differ.
func (g *global) printTargets(to io.Writer, rows []api.TargetRow, which bool) error {
	if g.output == "json" {
		return jsonLines(to, rows)
	}
	header := []string{"TARGET", "NAME", "STATE"}
	if which {
		header = []string{"ORDER", "TITLE", "TARGET", "NAME", "STATE", "ISSUED BY", "DEADLINE"}
	}
	header = append(header, "STORED", "DELIVERED", "ACKNOWLEDGED", "EXECUTED", "AGE", "BY", "LAST CONTACT", "NOTE")
	if g.output == "wide" {
		header = append(header, "状态", "REMINDED", "CANCELLED")
	}
	var out [][]string
	for _, r := range rows {
		row := []string{string(r.Site), orDash(r.Name), r.State}
		if which {
			by := strings.TrimSpace(string(r.Brief.Issuer) + " " + r.Brief.Who)
			row = slices.Concat([]string{string(r.Brief.Order), r.Brief.Title}, row, []string{orDash(by), stamp(r.Brief.DeadlineMS)})
		}
		row = append(row, stamp(r.StoredMS), stamp(r.DeliveredMS), stamp(r.AcknowledgedMS), stamp(r.ExecutedMS),
			span(r.AgeMS), orDash(string(r.Hop)), stamp(r.HopContactMS), orDash(targetNote(r)))
		if g.output == "wide" {
			row = append(row, orderStates[r.State], stamp(r.RemindedMS), stamp(r.CancelledMS))
		}
		out = append(out, row)
	}
	return table(to, header, out)
}

// targetNote says what is out of the ordinary at a target, and its last word.
func targetNote(r api.TargetRow) string {
	var out []string
	if r.Change != "" {
		out = append(out, r.Change)
	}
	if r.Overdue {
		out = append(out, "overdue")
	}
	if r.Late {
		out = append(out, "late")
	}
	if r.CancelledLate {
		out = append(out, "cancelled too late")
	}
	for i := len(r.Steps) - 1; i >= 0; i-- {
		if s := r.Steps[i]; s.By == r.Site && (s.Note != "" || s.Reason != "") {
			out = append(out, strings.TrimSpace(s.Reason+" "+s.Note))
			break
		}
	}
	return strings.Join(out, ", ")
}

func newOrderInbox(g *global) *cobra.Command {
	var q api.ReceiptQuery
	var l listing
	cmd := &cobra.Command{
		Use: "inbox", Short: "List the orders to this site, the newest first", Args: exactArgs(0),
		Example: "  tiermesh order inbox\n  tiermesh order inbox --state delivered",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.lists(cmd, &l, func(ctx context.Context, c *api.Client) error {
				s, err := c.Status(ctx)
				if err != nil {
					return err
				}
				q.Site = s.Site
				rows, err := receipts(ctx, c, q, &l)
				if err != nil {
					return err
				}
				return l.end(cmd, g.printTargets(cmd.OutOrStdout(), rows, true))
			})
		},
	}
	cmd.Flags().StringVar(&q.State, "state", "", "only those in this state")
	l.flags(cmd)
	return cmd
}

func newOrderShow(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "show ORDER", Short: "Show how far an order is at each target, with the times at each hop", Args: exactArgs(1),
		Long: `Times are by the clock of the site that the step is of: issued at the issuer, stored
at a district on the way, the others at the target. At a site on the way it shows
the targets below that. -o json has every step, with notes and evidence.`,
		Example: "  tiermesh order show order:0190f1c2-…\n  tiermesh order show order:0190f1c2-… -o wide",
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				o, err := c.Order(ctx, args[0])
				if err != nil {
					return err
				}
				to := cmd.OutOrStdout()
				if g.output == "json" {
					return jsonLines(to, []api.OrderDetail{o})
				}
				n := o.Counts
				say(to, "%s  %s\n%s", o.ID, o.Brief.Title, paragraph(o.Brief.Text))
				say(to, "issued by %s %s to %s at %s  deadline %s\n", o.Brief.Issuer, o.Brief.Who, o.Brief.To, stamp(o.Brief.IssuedAtMS), stamp(o.Brief.DeadlineMS))
				say(to, "of %s: %d sent, %d delivered, %d acknowledged, %d executed, %d refused, %d cancelled\n", count(n.Targets, "target"), n.Sent, n.Delivered, n.Acknowledged, n.Executed, n.Refused, n.Cancelled)
				for _, s := range o.Steps {
					say(to, "%s at %s %s\n", s.Kind, stamp(s.At.Millis()), s.Note)
				}
				sayln(to)
				return g.printTargets(to, o.Targets, false)
			})
		},
	}
}

func paragraph(s string) composed {
	if s == "" {
		return ""
	}
	return composed(legible.Lines(s, "  ") + "\n")
}

// orderVerb is a command that makes one kind of step.
type orderVerb struct {
	name, kind, short, example string
	note, evidence, reason     bool
}

var orderVerbs = []orderVerb{
	{name: "ack", kind: command.StepAck, short: "Take note (签收) of an order, at its target"},
	{name: "execute", kind: command.StepExecute, short: "Report an order as carried out (执行), at its target", evidence: true, example: "--note 已转移 120 人 --evidence attachment:7"},
	{name: "refuse", kind: command.StepRefuse, short: "Say that an order cannot or may not be carried out, at its target", reason: true, example: "--reason no_means --note 道路中断"},
	{name: "report", kind: command.StepReport, short: "Report back (回报) how an order stands, at its target", evidence: true, note: true, example: "--note 已转移 60 人"},
	{name: "cancel", kind: command.StepCancel, short: "Take an order back (撤销), at its issuer"},
	{name: "remind", kind: command.StepRemind, short: "Ask again (催办) the targets that have not carried an order out, at its issuer"},
}

func newOrderVerb(g *global, v orderVerb) *cobra.Command {
	w := &write{g: g}
	var s api.OrderStep
	long := v.short + "."
	if v.reason {
		long += "\nReasons: " + strings.Join(command.RefuseReasons(), ", ") + "."
	}
	cmd := &cobra.Command{
		Use: v.name + " ORDER", Short: v.short, Long: long, Args: exactArgs(1),
		Example: strings.TrimRight("  tiermesh order "+v.name+" order:0190f1c2-… "+v.example, " "),
		RunE: func(cmd *cobra.Command, args []string) error {
			s.Kind = v.kind
			return submit(w, cmd, func(ctx context.Context, c *api.Client, key string) (api.OrderStepResult, error) {
				return c.StepOrder(ctx, args[0], key, s)
			}, func(r api.OrderStepResult) string {
				return fmt.Sprintf("%s  %s\nnext: %s", r.ID, r.State, strings.Join(r.Next, ", "))
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&s.Who, "who", "", "the person who does it")
	f.StringVar(&s.Note, "note", "", "a remark for the record")
	if v.evidence {
		f.StringArrayVar(&s.Evidence, "evidence", nil, "reference to what shows it; may be repeated")
	}
	if v.reason {
		f.StringVar(&s.Reason, "reason", "", "one of "+strings.Join(command.RefuseReasons(), ", "))
		require(cmd, "reason")
	}
	if v.note {
		require(cmd, "note")
	}
	w.flag(cmd)
	return cmd
}
