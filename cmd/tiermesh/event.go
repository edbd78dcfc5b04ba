package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
	"github.com/tiermesh/tiermesh/tiers/instant"
)

// withEvents adds to the commands of events what they have beside other lists.
func withEvents(g *global, cmd *cobra.Command) {
	cmd.Long = `An event is something that happened, reported once. Its life is: reported,
accepted, dispatched into tasks, verified, closed. One that was dispatched ends
with its tasks; one without tasks ends by feedback, verify (evidence, and another
person) and close. Duplicates are merged: the earliest report is the original and
lists all who reported. What cannot be an event is kept in quarantine.
Everything works while links are cut.`
	if list, _, err := cmd.Find([]string{"list"}); err == nil {
		cmd.RemoveCommand(list)
	}
	cmd.AddCommand(newEventList(g), newEventImport(g), newEventCorrect(g), newEventMerge(g), newEventUnmerge(g), newEventDuplicates(g),
		newEventAttach(g), newAttachment(g), newQuarantine(g))
	for _, v := range eventVerbs {
		cmd.AddCommand(newEventVerb(g, v))
	}
}

func newEventList(g *global) *cobra.Command {
	var q api.EventQuery
	var site, since, until string
	var l listing
	cmd := &cobra.Command{
		Use: "list", Short: "List events by state, type, priority, time or site", Args: exactArgs(0),
		Long: `Lists events, the newest first. --since and --until bound the time of report:
RFC 3339, a date at UTC+8, or milliseconds since 1970.
States: ` + strings.Join(event.States(), ", ") + `.`,
		Example: "  tiermesh event list --limit 20\n  tiermesh event list --state reported --priority 1\n  tiermesh event list --since 2026-11-25 --type 01001 -o json",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			q.Site = tiers.SiteID(site)
			for _, x := range []struct {
				flag, text string
				into       *int64
			}{{"since", since, &q.SinceMS}, {"until", until, &q.UntilMS}} {
				if x.text != "" {
					if *x.into, err = instant.Milliseconds(x.text); err != nil {
						return usagef("--%s: %v", x.flag, err)
					}
				}
			}
			return g.lists(cmd, &l, func(ctx context.Context, c *api.Client) error {
				items, err := pages(&l, pageMax, func(limit int, after string) ([]json.RawMessage, string, error) {
					q.Limit, q.After = limit, after
					page, err := c.ListEvents(ctx, q)
					return page.Items, page.Next, err
				})
				if err == nil {
					err = knownSite(ctx, c, q.Site, len(items))
				}
				if err != nil {
					return err
				}
				return l.end(cmd, g.print(cmd.OutOrStdout(), eventColumns, items))
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&site, "site", "", "only the streams of this site")
	f.StringVar(&q.State, "state", "", "only events in this state")
	f.StringVar(&q.Type, "type", "", "only events of this type's code")
	f.IntVar(&q.Priority, "priority", 0, "only events of this priority")
	f.StringVar(&since, "since", "", "only events reported from then on")
	f.StringVar(&until, "until", "", "only events reported before then")
	l.flags(cmd)
	return cmd
}

// eventVerb is a command that makes one kind of action.
type eventVerb struct {
	kind, short string
	// who and note say that the flag is required; score that there is one.
	who, note, score bool
	example          string
}

var eventVerbs = []eventVerb{
	{kind: event.KindAccept, short: "Accept (受理) an event"},
	{kind: event.KindRegister, short: "Register (立案) an event"},
	{kind: event.KindFeedback, short: "Report back (反馈) that the work on an event without tasks is done", who: true, example: "--who 张三 --note 已更换井盖"},
	{kind: event.KindVerify, short: "Verify (核查) an event without tasks: needs evidence, and somebody who did not handle it", who: true, example: "--who 李四 --evidence attachment:9f86d081884c7d65"},
	{kind: event.KindClose, short: "Close (结案) a verified event", who: true, example: "--who 李四"},
	{kind: event.KindEvaluate, short: "Evaluate (评价) a closed event", who: true, score: true, example: "--who 王五 --score 5 --note 很快"},
	{kind: event.KindReopen, short: "Reopen (重开) an event", note: true, example: "--note 又坏了"},
	{kind: event.KindVoid, short: "Make an event void (作废)", note: true, example: "--note 误报"},
}

func newEventVerb(g *global, v eventVerb) *cobra.Command {
	var a event.Action
	var key string
	cmd := &cobra.Command{
		Use: v.kind + " ID", Short: v.short, Args: exactArgs(1), Long: v.short + ".\nA refusal says why.",
		Example: strings.TrimRight("  tiermesh event "+v.kind+" event:0190f1c2-… "+v.example, " "),
		RunE: func(cmd *cobra.Command, args []string) error {
			a.Kind = v.kind
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				r, err := c.ActOnEvent(ctx, api.EventActionRequest{Key: orNew(key), Event: eventID(args[0]), Action: a})
				return g.printEvent(cmd.OutOrStdout(), r, err)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&a.Who, "who", "", "the person who does it")
	f.StringVar(&a.Note, "note", "", "a remark for the record")
	f.StringArrayVar(&a.Evidence, "evidence", nil, "reference to what shows it; may be repeated")
	f.StringVar(&key, "key", "", "idempotency key; made up when left out")
	var wanted []string
	if v.score {
		f.IntVar(&a.Score, "score", 0, "1 (bad) to 5")
		wanted = append(wanted, "score")
	}
	if v.who {
		wanted = append(wanted, "who")
	}
	if v.note {
		wanted = append(wanted, "note")
	}
	require(cmd, wanted...)
	return cmd
}

// orNew is a key, or a new one.
func orNew(key string) string {
	if key == "" {
		return uuid.NewString()
	}
	return key
}

// eventID is an event's identifier, with or without its kind, or its full name.
func eventID(text string) tiers.DocID { return tiers.OfKind(event.Kind, text) }

// printEvent shows where an event stands after a write.
func (g *global) printEvent(w io.Writer, r api.EventResult, err error) error {
	if err != nil {
		return err
	}
	if g.output == "json" {
		return json.NewEncoder(w).Encode(r)
	}
	into := ""
	if r.Into != "" {
		into = "  into " + string(r.Into)
	}
	_, err = fmt.Fprintf(w, "%s  %s  priority %d%s\n", r.ID, r.State, r.Priority, into)
	return err
}

func newEventCorrect(g *global) *cobra.Command {
	var key string
	cmd := &cobra.Command{
		Use: "correct ID FIELD=VALUE…", Short: "Correct fields of an event's report", Args: cobra.MinimumNArgs(2),
		Long: `Corrects title, text, place, type or grid. The report itself stays as it was;
event show tells who corrected what and when. Corrections that did not see each
other show as a conflict until somebody corrects the field again.

priority=N raises the priority; it cannot be lowered. The event keeps its stream;
when it becomes urgent an alert in the urgent stream tells of it.`,
		Example: "  tiermesh event correct event:0190f1c2-… place=王牌路 title=供水井盖缺失\n  tiermesh event correct event:0190f1c2-… priority=1",
		RunE: func(cmd *cobra.Command, args []string) error {
			fields, err := assignments(args[1:])
			if err != nil {
				return err
			}
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				r, err := c.CorrectEvent(ctx, api.CorrectRequest{Key: orNew(key), Event: eventID(args[0]), Fields: fields})
				return g.printEvent(cmd.OutOrStdout(), r, err)
			})
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "idempotency key; made up when left out")
	return cmd
}

// assignments reads FIELD=VALUE arguments.
func assignments(args []string) (map[string]string, error) {
	out := map[string]string{}
	for _, a := range args {
		name, value, ok := strings.Cut(a, "=")
		if !ok || name == "" {
			return nil, usagef("%q: want FIELD=VALUE", a)
		}
		out[name] = value
	}
	return out, nil
}

func newEventMerge(g *global) *cobra.Command {
	var r api.MergeRequest
	cmd := &cobra.Command{
		Use: "merge ID ID", Short: "Merge (合并) two events that are one", Args: exactArgs(2),
		Long: `Says that two events are one. Of the two the one that was reported earlier is the
original, whichever is named first, so that sites that merge them in opposite
directions while they are apart agree in the end. Both stay: the duplicate is
merged into the original, which lists all who reported, and whose tasks take over
the duplicate's open ones. The site must hold both events and be above them, or
their own.`,
		Example: "  tiermesh event duplicates\n  tiermesh event merge event:0190f1c2-… event:0190f1d4-… --note 同一井盖",
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Key, r.Event, r.With = orNew(r.Key), eventID(args[0]), eventID(args[1])
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				out, err := c.MergeEvents(ctx, r)
				return g.printEvent(cmd.OutOrStdout(), out, err)
			})
		},
	}
	mergeFlags(cmd, &r)
	return cmd
}

func mergeFlags(cmd *cobra.Command, r *api.MergeRequest) {
	cmd.Flags().StringVar(&r.Note, "note", "", "a remark for the record")
	cmd.Flags().StringVar(&r.Who, "who", "", "the person who says so")
	cmd.Flags().StringVar(&r.Key, "key", "", "idempotency key; made up when left out")
}

func newEventUnmerge(g *global) *cobra.Command {
	var r api.MergeRequest
	cmd := &cobra.Command{
		Use: "unmerge ID [ID]", Short: "Take two merged events apart again", Args: cobra.RangeArgs(1, 2),
		Long: `Says that two events that were merged are not one. Without the second one it is
the original of the first. Tasks that were merged, or taken over, stay as they are.`,
		Example: "  tiermesh event unmerge event:0190f1d4-… --note 两处",
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Key, r.Event = orNew(r.Key), eventID(args[0])
			if len(args) == 2 {
				r.With = eventID(args[1])
			}
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				out, err := c.UnmergeEvents(ctx, r)
				return g.printEvent(cmd.OutOrStdout(), out, err)
			})
		},
	}
	mergeFlags(cmd, &r)
	return cmd
}

func newEventDuplicates(g *global) *cobra.Command {
	var q api.SuspectQuery
	var since string
	cmd := &cobra.Command{
		Use: "duplicates [ID]", Short: "List what may be reported twice", Args: cobra.MaximumNArgs(1),
		Long: `Lists the events that may be of the same thing as one, or recent events that may
be duplicates of earlier ones: of the same type, within 200 m (or at the same
place, by name) and two hours, as far as this site holds them. A site's
configuration may set less, and let it merge by itself what has the same source
key, or the same words of the same person.`,
		Example: "  tiermesh event duplicates --since 2026-11-25\n  tiermesh event duplicates event:0190f1c2-…",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if since != "" {
				if q.SinceMS, err = instant.Milliseconds(since); err != nil {
					return usagef("--since: %v", err)
				}
			}
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				if len(args) == 0 {
					out, err := c.SuspectPairs(ctx, q)
					return g.printSuspects(cmd.OutOrStdout(), out, err)
				}
				out, err := c.Suspects(ctx, eventID(args[0]))
				return g.printSuspects(cmd.OutOrStdout(), api.SuspectPairList{Pairs: []api.SuspectPair{{Event: eventID(args[0]), Suspects: out.Suspects}}}, err)
			})
		},
	}
	cmd.Flags().StringVar(&since, "since", "", "only events reported from then on")
	cmd.Flags().IntVar(&q.Events, "events", 200, "how many of the newest events are looked at, up to 1000")
	return cmd
}

// fullName is a document's name in a stream that may not be known.
func fullName(stream string, id tiers.DocID) tiers.DocID {
	return event.Other{Event: id, Stream: stream}.Name()
}

func (g *global) printSuspects(w io.Writer, out api.SuspectPairList, err error) error {
	if err != nil {
		return err
	}
	if g.output == "json" {
		return json.NewEncoder(w).Encode(out)
	}
	var rows [][]string
	for _, p := range out.Pairs {
		for _, s := range p.Suspects {
			distance, why := "same place", "-"
			if s.DistanceM != nil {
				distance = fmt.Sprintf("%.0f m", *s.DistanceM)
			}
			if s.SameSource {
				why = "same source"
			} else if s.SameWords {
				why = "same words"
			}
			this, other := p.Event, s.Event
			if s.SameName { // then the names do not tell them apart
				why = "same identifier"
				this, other = fullName(p.Stream, this), fullName(s.Stream, other)
			}
			rows = append(rows, []string{
				string(this), string(other), distance, (time.Duration(s.ApartS) * time.Second).String(), why, s.State, string(s.Site), s.Title,
			})
		}
	}
	return table(w, []string{"EVENT", "MAY BE", "DISTANCE", "APART", "CERTAIN", "STATE", "SITE", "TITLE"}, rows)
}

// printWrite shows where a write stands.
func (g *global) printWrite(w io.Writer, r api.WriteResult, err error) error {
	if err != nil {
		return err
	}
	if g.output == "json" {
		return json.NewEncoder(w).Encode(r)
	}
	_, err = fmt.Fprintf(w, "%s  %s  %d\n", r.ID, r.Stream, r.Seq)
	return err
}
