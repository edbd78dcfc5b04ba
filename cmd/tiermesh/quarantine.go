package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
)

var quarantineColumns = []column{
	{title: "ID", path: "id", short: true}, {title: "RECEIVED", path: "held.received_at_ms"}, {title: "STATE", path: "state"}, {title: "FIELD", path: "held.field"},
	{title: "REASON", path: "held.reason"}, {title: "SITE", path: "site"}, {title: "CHANNEL", path: "held.channel", wide: true},
	{title: "REPORTER", path: "held.reporter", wide: true}, {title: "FILE", path: "held.origin.batch", wide: true}, {title: "ROW", path: "held.origin.row", wide: true}, {title: "EVENT", path: "event", wide: true},
}

func newQuarantine(g *global) *cobra.Command {
	parent := &cobra.Command{
		Use: "quarantine", Short: "See and decide on what was reported and cannot be an event",
		Long: `What was reported and cannot be taken in as an event, such as one of a type that
no catalog has, is kept as it came, with the reason. The site that holds it makes
an event of it, or says why it is none.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	parent.AddCommand(newQuarantineList(g), newQuarantineShow(g), newQuarantineRelease(g), newQuarantineDiscard(g))
	return parent
}

func newQuarantineList(g *global) *cobra.Command {
	q := api.QuarantineQuery{}
	var which heldFilter
	var site string
	var l listing
	cmd := &cobra.Command{
		Use: "list", Short: "List what is held, the oldest first", Args: exactArgs(0),
		Long: `Lists what is held, the oldest first, and in the order of its file; below it, how
many there are in all by reason.`,
		Example: `  tiermesh event quarantine list
  tiermesh event quarantine list --reason type --limit 10
  tiermesh event quarantine list --state discarded -o wide`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			q.Site, q.QuarantineFilter = tiers.SiteID(site), which.filter
			return g.lists(cmd, &l, func(ctx context.Context, c *api.Client) error {
				items, err := pages(&l, pageMax, func(limit int, after string) ([]json.RawMessage, string, error) {
					q.Limit, q.After = limit, after
					page, err := c.ListQuarantine(ctx, q)
					return page.Items, page.Next, err
				})
				if err == nil {
					err = knownSite(ctx, c, q.Site, len(items))
				}
				if err != nil {
					return err
				}
				if err := g.print(cmd.OutOrStdout(), quarantineColumns, items); err != nil || g.output == "json" || len(items) == 0 {
					return l.end(cmd, err)
				}
				return l.end(cmd, g.printHeld(ctx, cmd.OutOrStdout(), c, q))
			})
		},
	}
	cmd.Flags().StringVar(&q.State, "state", event.QuarantineHeld, "held, released or discarded")
	which.flags(cmd, "reason")
	cmd.Flags().StringVar(&site, "site", "", "only what this site holds")
	l.flags(cmd)
	return cmd
}

func quarantineID(text string) tiers.DocID { return tiers.OfKind(event.KindQuarantine, text) }

func newQuarantineShow(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show what is held, as it came, as JSON", Args: exactArgs(1),
		Example: "  tiermesh event quarantine show quarantine:0190f1c2-…",
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				v, err := c.Quarantined(ctx, quarantineID(args[0]))
				if err != nil {
					return err
				}
				enc := json.NewEncoder(cmd.OutOrStdout())
				enc.SetEscapeHTML(false)
				enc.SetIndent("", "  ")
				return enc.Encode(v)
			})
		},
	}
}

// printHeld shows how many are held in all, by reason.
func (g *global) printHeld(ctx context.Context, w io.Writer, c *api.Client, q api.QuarantineQuery) error {
	total, reasons := 0, map[string]int{}
	for q.After = ""; ; {
		sum, err := c.SummarizeQuarantine(ctx, q)
		if err != nil {
			return err
		}
		total += sum.Count
		for _, r := range sum.Reasons {
			reasons[r.Text] += r.Count
		}
		if q.After = sum.Next; q.After == "" {
			break
		}
	}
	fmt.Fprintf(w, "%d %s in all:\n", total, q.State)
	for _, text := range slices.SortedFunc(maps.Keys(reasons), func(a, b string) int {
		return cmp.Or(cmp.Compare(reasons[b], reasons[a]), cmp.Compare(a, b))
	}) {
		fmt.Fprintf(w, "  %d: %s\n", reasons[text], text)
	}
	return nil
}

// heldFilter are the flags that say which of what is held is meant.
type heldFilter struct {
	filter api.QuarantineFilter
	all    bool
}

func (f *heldFilter) flags(cmd *cobra.Command, reason string) {
	fs := cmd.Flags()
	fs.StringVar(&f.filter.Reason, reason, "", "those held for a reason: part of it, or the field that it is about")
	fs.StringVar(&f.filter.Type, "type", "", "those of this type's code")
	fs.StringVar(&f.filter.File, "file", "", "those of one import: its key, as list and event import print it")
}

// many flags also take all of them.
func (f *heldFilter) many(cmd *cobra.Command, dry *bool, reason string) {
	f.flags(cmd, reason)
	cmd.Flags().BoolVar(&f.all, "all", false, "all that this site holds")
	cmd.Flags().BoolVar(dry, "dry-run", false, "only say what would become of them")
}

// check refuses an identifier with a filter, or neither.
func (f *heldFilter) check(args []string, reason string, dry bool) (many bool, err error) {
	given := f.filter != (api.QuarantineFilter{})
	switch {
	case len(args) == 1 && (given || f.all || dry):
		return false, usagef("%s with a filter: want an identifier, or which of them, and --dry-run only with these", args[0])
	case len(args) == 0 && given == f.all:
		return false, usagef("say which: an identifier, --all, or any of --%s, --type and --file", reason)
	}
	return len(args) == 0, nil
}

// decideMany decides on page after page, and tells how it stands after each.
func (g *global) decideMany(cmd *cobra.Command, r api.ManyRequest, done string, decide func(context.Context, *api.Client, api.ManyRequest) (api.ManyResult, error)) error {
	sum := api.ManyResult{Items: []api.ManyItem{}}
	reasons := map[string]int{}
	err := g.transfer(cmd, func(ctx context.Context, c *api.Client, moved func()) error {
		for {
			page, err := decide(ctx, c, r)
			if err != nil {
				return err
			}
			moved()
			sum.Done, sum.Invalid, sum.Decided, sum.Unknown = sum.Done+page.Done, sum.Invalid+page.Invalid, sum.Decided+page.Decided, sum.Unknown+page.Unknown
			for _, it := range page.Items {
				if it.Outcome != api.ManyDone {
					sum.Items = append(sum.Items, it)
					reasons[event.ReasonKind(it.Message)]++
				}
			}
			if r.After = page.Next; r.After == "" {
				return nil
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%d looked at\n", sum.Done+sum.Invalid+sum.Decided+sum.Unknown)
		}
	})
	if r.DryRun {
		done = "would be " + done
	}
	if g.output == "json" {
		if werr := json.NewEncoder(cmd.OutOrStdout()).Encode(sum); werr != nil {
			return werr
		}
	} else {
		fmt.Fprintf(cmd.OutOrStdout(), "%d %s, %d stay held, %d were decided on before\n", sum.Done, done, sum.Invalid+sum.Unknown, sum.Decided)
		for _, text := range slices.Sorted(maps.Keys(reasons)) {
			fmt.Fprintf(cmd.OutOrStdout(), "  %d: %s\n", reasons[text], text)
		}
	}
	switch {
	case err != nil:
		return err
	case sum.Unknown > 0:
		return fmt.Errorf("%w: of %d: give the command again with --key %s", api.ErrUnknownOutcome, sum.Unknown, r.Key)
	case sum.Invalid > 0:
		return fmt.Errorf("%w: %s refused still", errInput, count(sum.Invalid, "report"))
	}
	return nil
}

func newQuarantineRelease(g *global) *cobra.Command {
	var r api.ReleaseRequest
	var set []string
	var which heldFilter
	var dry bool
	cmd := &cobra.Command{
		Use: "release [ID]", Short: "Make events of what is held, with fields set", Args: cobra.MaximumNArgs(1),
		Long: `Makes an event of one that is held, or of all that --reason, --type and --file
select, or --all. --set sets a field of the report, or takes it out when the value is
empty. Each event names what it was released from. What is still no event stays held,
with why; what somebody else decided on in the meantime stays as that was decided.

What waits for a type becomes an event by itself when the type is published.`,
		Example: `  tiermesh event quarantine release quarantine:0190f1c2-… --set type=01001 --who 李四
  tiermesh event quarantine release --reason priority --set priority=3 --dry-run
  tiermesh event quarantine release --file import-5f2c… --who 李四`,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			many, err := which.check(args, "reason", dry)
			if err != nil {
				return err
			}
			if r.Set, err = assignments(set); err != nil {
				return err
			}
			r.Key = orNew(r.Key)
			if many {
				return g.decideMany(cmd, api.ManyRequest{Key: r.Key, Filter: which.filter, All: which.all, Set: r.Set, Who: r.Who, DryRun: dry}, "released",
					func(ctx context.Context, c *api.Client, m api.ManyRequest) (api.ManyResult, error) {
						return c.ReleaseMany(ctx, m)
					})
			}
			r.ID = quarantineID(args[0])
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				w, err := c.Release(ctx, r)
				return g.printWrite(cmd.OutOrStdout(), w, err)
			})
		},
	}
	which.many(cmd, &dry, "reason")
	cmd.Flags().StringArrayVar(&set, "set", nil, "FIELD=VALUE; may be repeated")
	cmd.Flags().StringVar(&r.Who, "who", "", "the person who decides")
	cmd.Flags().StringVar(&r.Key, "key", "", "idempotency key; made up when left out")
	return cmd
}

func newQuarantineDiscard(g *global) *cobra.Command {
	var r api.DiscardRequest
	var which heldFilter
	var dry bool
	cmd := &cobra.Command{
		Use: "discard [ID]", Short: "Say why what is held is no event; it stays to be seen", Args: cobra.MaximumNArgs(1),
		Long: `Says of one that is held, or of all that --held-for, --type and --file select, or
--all, why it is no event. It stays to be seen (list --state discarded).`,
		Example: `  tiermesh event quarantine discard quarantine:0190f1c2-… --reason 测试
  tiermesh event quarantine discard --held-for title --reason 空标题 --dry-run`,
		RunE: func(cmd *cobra.Command, args []string) error {
			many, err := which.check(args, "held-for", dry)
			if err != nil {
				return err
			}
			r.Key = orNew(r.Key)
			if many {
				return g.decideMany(cmd, api.ManyRequest{Key: r.Key, Filter: which.filter, All: which.all, Reason: r.Reason, Who: r.Who, DryRun: dry}, "discarded",
					func(ctx context.Context, c *api.Client, m api.ManyRequest) (api.ManyResult, error) {
						return c.DiscardMany(ctx, m)
					})
			}
			r.ID = quarantineID(args[0])
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				w, err := c.Discard(ctx, r)
				return g.printWrite(cmd.OutOrStdout(), w, err)
			})
		},
	}
	which.many(cmd, &dry, "held-for")
	cmd.Flags().StringVar(&r.Reason, "reason", "", "why it is no event")
	cmd.Flags().StringVar(&r.Who, "who", "", "the person who decides")
	cmd.Flags().StringVar(&r.Key, "key", "", "idempotency key; made up when left out")
	require(cmd, "reason")
	return cmd
}
