package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
)

var (
	eventColumns = []column{
		{title: "ID", path: "id", short: true}, {title: "REPORTED", path: "report.reported_at_ms"}, {title: "STATE", path: "state"},
		{title: "P", path: "report.priority"}, {title: "TYPE", path: "report.type"}, {title: "TITLE", path: "report.title"},
		{title: "SITE", path: "site"}, {title: "PLACE", path: "report.place", wide: true}, {title: "DOUBT", path: "report.doubt", wide: true}, {title: "TASKS", path: "tasks", wide: true},
	}
)

func newStatus(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "The node and the state of every link", Args: exactArgs(0),
		Long: `Shows the node and its links. OWED is how many records the peer and this site
are known to lack. PROVEN says when both ends last showed the same digest: then
they held exactly the same, and "equal" says that they still do. With -o wide,
PACKET is the size of the packets that go to the peer now, in bytes of UDP payload:
1200 is the least, and less than 1300 or so a sign of a tunnel that is set up badly.`,
		Example: "  tiermesh status\n  tiermesh status -o wide\n  tiermesh status -o json --api unix:/run/tiermesh/api.sock",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				s, err := c.Status(ctx)
				if err != nil {
					return err
				}
				if g.output == "json" {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(s)
				}
				return printStatus(cmd.OutOrStdout(), s, time.Now(), g.output == "wide")
			})
		},
	}
}

func printStatus(w io.Writer, s api.Status, now time.Time, wide bool) error {
	fmt.Fprintf(w, "%s %s (%s) node %d of federation %s: %s, incarnation %d, topology %d, up %s\n",
		s.Site, s.Name, s.Tier, s.Node, s.Federation, s.Role, s.Incarnation, s.TopologyVersion,
		time.Duration(s.UptimeS*float64(time.Second)).Round(time.Second))
	fmt.Fprintf(w, "%s, %s behind, %s refused\n", count(s.Records, "record"), count(s.ViewsDirty, "view"), count(s.Refused, "record"))
	printExpiry(w, s, now)
	fmt.Fprintln(w)
	titles := []string{"PEER", "NAME", "LINK", "SINCE", "CONTACT", "OWED OUT", "OWED IN", "NOW", "PROVEN", "RTT"}
	if wide {
		titles = append(titles, "PACKET")
	}
	var rows [][]string
	for _, l := range s.Links {
		equal := "no"
		if l.Equal {
			equal = "equal"
		}
		state := l.State
		if l.StandIn {
			state += " (stand-in)"
		}
		row := []string{
			string(l.Peer), l.PeerName, state, ago(&l.Since, now), ago(l.LastContact, now),
			fmt.Sprint(l.OwedOut), fmt.Sprint(l.OwedIn), equal, ago(l.ProvenEqualAt, now), fmt.Sprintf("%.1f ms", l.RTTMS),
		}
		if wide {
			row = append(row, bytesOrUnknown(l.PacketBytes))
		}
		rows = append(rows, append(row, l.LastError))
	}
	if err := table(w, append(titles, "LAST ERROR"), rows); err != nil {
		return err
	}
	for _, l := range s.Links {
		if l.Path != "" {
			fmt.Fprintf(w, "network to %s: %s\n", l.Peer, l.Path)
		}
		for _, reason := range slices.Sorted(maps.Keys(l.Refused)) {
			fmt.Fprintf(w, "refused from %s: %s, %s\n", l.Peer, reason, count(l.Refused[reason], "time"))
		}
		for _, c := range l.Disputed {
			fmt.Fprintf(w, "forked: %s, the two ends hold different records and go on without it\n", c)
		}
	}
	for _, f := range s.Forks {
		fmt.Fprintf(w, "forked: %s of %s, %s from %d on set aside as evidence\n", f.Stream, f.Author, count(f.Aside, "record"), f.Kept+1)
	}
	for _, a := range s.Alarms {
		sayln(w, "alarm:", alarmText(a))
	}
	if len(s.Alarms) > 0 {
		fmt.Fprintln(w, "whoever has seen to an alarm says so with tiermesh alarm ack")
	}
	return nil
}

func bytesOrUnknown(n int) string {
	if n == 0 {
		return "?"
	}
	return fmt.Sprint(n)
}

// renewWithin is for how long before its end a certificate's renewal is asked for.
const renewWithin = 30 * day

// printExpiry says until when the node's certificate is valid, and what to do when
// that is soon.
func printExpiry(w io.Writer, s api.Status, now time.Time) {
	if s.CertificateEnds == nil {
		return
	}
	fmt.Fprintf(w, "certificate valid until %s, %s\n", clock(*s.CertificateEnds), untilText(*s.CertificateEnds, now))
	if s.CertificateEnds.Sub(now) < renewWithin {
		fmt.Fprintf(w, "warning: renew the certificate, or links end with it: tiermesh ca issue --site %s --node %d --out DIR, where DIR is the node's credentials\n", s.Site, s.Node)
	}
}

// alarmText shows the time that an alarm begins with as all others.
func alarmText(alarm string) string {
	at, text, _ := strings.Cut(alarm, " ")
	if t, err := time.Parse(time.RFC3339, at); err == nil {
		return clock(t) + " " + text
	}
	return alarm
}

func ago(t *time.Time, now time.Time) string {
	if t == nil || t.IsZero() {
		return "never"
	}
	return now.Sub(*t).Round(time.Second).String() + " ago"
}

// newList is the command that lists one kind.
func newList(g *global, kind, collection string, cols []column) *cobra.Command {
	parent := &cobra.Command{
		Use: kind, Short: "List and show " + collection,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var site string
	var l listing
	list := &cobra.Command{
		Use: "list", Short: "List " + collection, Args: exactArgs(0),
		Example: "  tiermesh " + kind + " list --limit 20\n  tiermesh " + kind + " list -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.lists(cmd, &l, func(ctx context.Context, c *api.Client) error {
				q := api.ListQuery{Site: tiers.SiteID(site)}
				items, err := pages(&l, pageMax, func(limit int, after string) ([]json.RawMessage, string, error) {
					q.Limit, q.After = limit, after
					page, err := c.List(ctx, collection, q)
					return page.Items, page.Next, err
				})
				if err == nil {
					err = knownSite(ctx, c, q.Site, len(items))
				}
				if err != nil {
					return err
				}
				return l.end(cmd, g.print(cmd.OutOrStdout(), cols, items))
			})
		},
	}
	list.Flags().StringVar(&site, "site", "", "only the streams of this site")
	l.flags(list)
	show := &cobra.Command{
		Use: "show ID", Short: "Show one of the " + collection + " in full, as JSON", Args: exactArgs(1),
		Example: "  tiermesh " + kind + " show " + kind + ":0190f1c2-…",
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				items, err := c.View(ctx, collection, strings.TrimPrefix(args[0], kind+":"))
				if err != nil {
					return err
				}
				for i := range items {
					items[i] = withTimes(items[i])
				}
				if len(items) == 1 {
					return printJSON(cmd.OutOrStdout(), items[0])
				}
				return printJSON(cmd.OutOrStdout(), shown{Items: items})
			})
		},
	}
	parent.AddCommand(list, show)
	return parent
}

func newEvent(g *global) *cobra.Command {
	cmd := newList(g, "event", "events", eventColumns)
	cmd.Short = "Report, list and show events"
	withTasks(g, cmd)
	withEvents(g, cmd)
	cmd.AddCommand(newReport(g))
	return cmd
}

func newReport(g *global) *cobra.Command {
	var r event.Report
	var key, file, id string
	var keep bool
	var at point
	var rows fileFlags
	cmd := &cobra.Command{
		Use: "report", Short: "Report an event to this site", Args: exactArgs(0),
		Long: `Reports one event from flags, or many from a file of JSON lines, each
{"key": …, "report": {…}} as the API takes it. Each event is printed when it is
durable. A retry with the same key is safe: it gives the first report's result.
Of JSON lines many are under way at once; they are printed in their own order. A
program may write lines as things happen, and read what became of them.

A report of a type that no catalog here has is kept in quarantine: what is printed
is the document there, and why; tiermesh event quarantine goes on with it.`,
		Example: `  tiermesh event report --type 01001 --title 供水井盖异常 --place 高笋塘 --priority 2
  tiermesh event report --file events.jsonl
  tiermesh event report --file calls-gbk.jsonl --encoding gb18030
  hotline | tiermesh event report --file -`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				if file != "" {
					return g.reportFile(cmd, c, file, rows.Encoding)
				}
				r.Lat, r.Lon = at.given(cmd)
				if key == "" {
					key = uuid.NewString()
				}
				return g.reportOne(ctx, cmd, c, api.ReportRequest{Key: key, Report: r, ID: id, Quarantine: keep})
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&key, "key", "", "idempotency key; made up when left out")
	f.StringVar(&file, "file", "", "file of JSON lines, or - for standard input")
	rows.addEncoding(cmd)
	f.StringVar(&id, "id", "", "the event's identifier, a UUID that an app without a connection made up")
	f.BoolVar(&keep, "quarantine", false, "keep a report that breaks a rule, instead of refusing it")
	f.StringVar(&r.Type, "type", "", "event type code")
	f.StringVar(&r.Title, "title", "", "what happened, in a line")
	f.StringVar(&r.Text, "text", "", "the whole report")
	f.StringVar(&r.Place, "place", "", "where")
	f.StringVar(&r.Grid, "grid", "", "grid code")
	f.StringVar(&r.Reporter, "reporter", "", "who reports")
	f.StringVar(&r.Channel, "channel", "cli", "how it was reported")
	f.IntVar(&r.Priority, "priority", 3, "1 (highest) to 4; 1 and 2 are urgent")
	at.flags(cmd)
	return cmd
}
