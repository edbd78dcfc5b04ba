package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/track"
)

var proposalColumns = []column{
	{title: "ID", path: "id"}, {title: "DRAFTED", path: "drafted_at_ms"}, {title: "STATE", path: "state"}, {title: "SITE", path: "site"},
	{title: "DO", path: "content.do"}, {title: "TRACK", path: "content.code"}, {title: "OF", path: "content.site"}, {title: "REASON", path: "content.reason"},
	{title: "WAITS FOR", path: "waiting.site"}, {title: "DECIDED BY", path: "decided_by"}, {title: "WHY", path: "reason", wide: true},
	{title: "LINK", path: "waiting.link", wide: true}, {title: "HEARD", path: "waiting.last_contact", wide: true},
	{title: "CONFLICTS", path: "conflicts", wide: true},
}

// proposalVerb is a command that takes a proposal one step on.
type proposalVerb struct {
	name  string
	short string
	long  string
	// args are the flags that it takes besides --who and --key, required ones with a
	// bang.
	args    []string
	example string
}

var proposalVerbs = []proposalVerb{
	{name: track.ActionSubmit, short: "Submit (报请批准) a draft of this site to the site above"},
	{name: track.ActionWithdraw, short: "Take a draft or submitted proposal of this site back", args: []string{"reason"}},
	{
		name: track.ActionApprove, short: "Approve a proposal of a site below", args: []string{"reason", "stand-in", "anyway"},
		long: `The change is written to the track with the approval, all or none. When the track is
not any more what the author saw, the differences are shown and --anyway is needed.
It is for the site above the author to decide; while that is gone, one above it may,
with --stand-in. Decisions that did not hear of each other are shown as a conflict:
the higher tier's counts, then the earlier.`,
	},
	{name: track.ActionReject, short: "Reject a proposal of a site below, with a reason", args: []string{"reason!", "stand-in"}, example: " --reason 与市级跑道重复"},
	{
		name: track.ActionUndo, short: "Take back what an overruled approval wrote", args: []string{"reason"},
		long: `When a rejection overruled an approval that had been made apart, the track that was
added is retired, and fields that still are as proposed become what they were.`,
	},
}

func newProposal(g *global) *cobra.Command {
	cmd := &cobra.Command{
		Use: "proposal", Short: "Propose changes of tracks, and decide about them",
		Long: `A change proposal (报请批准) asks the site above to add, change or retire a track:
draft, submitted, then approved or rejected with a reason, or withdrawn. Drafting
and submitting work while links are cut; the decision comes after the heal.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newProposalList(g), newProposalShow(g), newProposalDraft(g))
	for _, v := range proposalVerbs {
		cmd.AddCommand(newProposalVerb(g, v))
	}
	return cmd
}

func newProposalList(g *global) *cobra.Command {
	var q api.ProposalQuery
	var site string
	var l listing
	cmd := &cobra.Command{
		Use: "list", Short: "List proposals, the newest first", Args: exactArgs(0),
		Long:    "Lists the proposals that this site holds: its own, and those of the sites above\nand below it. States: " + strings.Join(track.ProposalStates(), ", ") + ".",
		Example: "  tiermesh proposal list --waiting\n  tiermesh proposal list --site 500101001 -o wide",
		RunE: func(cmd *cobra.Command, _ []string) error {
			q.Site = tiers.SiteID(site)
			return g.lists(cmd, &l, func(ctx context.Context, c *api.Client) error {
				items, err := pages(&l, pageMax, func(limit int, after string) ([]json.RawMessage, string, error) {
					q.Limit, q.After = limit, after
					page, err := c.ListProposals(ctx, q)
					return page.Items, page.Next, err
				})
				if err == nil {
					err = knownSite(ctx, c, q.Site, len(items))
				}
				if err != nil {
					return err
				}
				return l.end(cmd, g.print(cmd.OutOrStdout(), proposalColumns, items))
			})
		},
	}
	cmd.Flags().StringVar(&site, "site", "", "only those of this site")
	cmd.Flags().StringVar(&q.State, "state", "", "only those in this state")
	cmd.Flags().BoolVar(&q.Waiting, "waiting", false, "only those that this site has to decide about")
	l.flags(cmd)
	return cmd
}

func newProposalShow(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Short: "Show a proposal: what it asks for, whose turn it is, what was done", Args: exactArgs(1),
		Example: "  tiermesh proposal show proposal:0190f1c2-…",
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				s, err := c.Proposal(ctx, args[0])
				return g.proposal(cmd.OutOrStdout(), s, err)
			})
		},
	}
}

// proposal prints one.
func (g *global) proposal(w io.Writer, s api.ProposalStatus, err error) error {
	if err != nil {
		return err
	}
	if g.output == "json" {
		return json.NewEncoder(w).Encode(s)
	}
	c := s.Content
	say(w, "%s  %s  %s %s of %s\n", s.ID, s.State, c.Do, c.Code, c.Site)
	say(w, "by %s, %s: %s\n", s.Site, localTime(s.DraftedAtMS), c.Reason)
	if t := c.Track; t != nil {
		say(w, "  %s, board %s, parent %s, owner %s, target %s, %s\n", t.Name, t.Board, dashed(t.Parent), dashed(t.Owner), dashed(t.Target), count(t.DeadlineDays, "day"))
	}
	for _, name := range sortedKeys(c.Sets()) {
		say(w, "  %s: %q, was %q\n", name, c.Sets()[name], c.Base[name])
	}
	for _, d := range s.Differences {
		say(w, "  changed since: %s was %q, is %q\n", d.Field, d.Base, d.Now)
	}
	if h := s.Waiting; h != nil {
		sayln(w, waitingText(*h, time.Now()))
	}
	if s.DecidedBy != "" {
		say(w, "%s by %s, %s: %s\n", s.State, s.DecidedBy, localTime(s.DecidedAtMS), dashed(s.Reason))
	}
	for _, f := range s.Conflicts {
		for i, v := range f.Values {
			say(w, "conflict: %s %d: %v by %s, %s\n", f.Field, i+1, v.Value, v.Site, localTime(v.AtMS))
		}
	}
	for _, site := range s.Undo {
		say(w, "the approval of %s was overruled: take back what it wrote with tiermesh proposal undo\n", site)
	}
	return nil
}

// waitingText says whose turn it is, and since when that site was not heard.
func waitingText(h api.Heard, now time.Time) string {
	text := fmt.Sprintf("waiting for %s %s", h.Site, h.Name)
	switch {
	case h.Link == api.LinkHere:
		return text + ", this site"
	case h.Link == "connected":
		return text + ", which is linked"
	case h.LastContact == nil:
		return text + ", never heard since this node started"
	default:
		return fmt.Sprintf("%s, not heard since %s (%s)", text, clock(*h.LastContact), ago(h.LastContact, now))
	}
}

func newProposalDraft(g *global) *cobra.Command {
	cmd := &cobra.Command{
		Use: "draft", Short: "Draft a proposal of this site",
		Long: `Drafts a proposal to add, change or retire a track. --of names the site in whose
catalog the track stands or is to stand: for a new one this site, and else the
nearest one that has it. --submit submits it at once. --revise replaces what a
draft asks for.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var t track.Track
	add := newDraft(g, "add CODE", "Propose to add a local track (特色跑道)", exactArgs(1),
		"  tiermesh proposal draft add tea --board town-economy --name 茶产业 --owner 农业服务中心 --reason 本地主导产业 --submit",
		func(c *track.Content, args []string) error {
			t.Code = args[0]
			c.Do, c.Track = track.DoAdd, &t
			return nil
		})
	trackFlags(add, &t)
	require(add, "board", "name", "reason")
	change := newDraft(g, "change CODE FIELD=VALUE…", "Propose to change fields of a track", cobra.MinimumNArgs(2),
		"  tiermesh proposal draft change flood-control target=20分钟到场 --reason 山区道路 --submit",
		func(c *track.Content, args []string) (err error) {
			c.Do = track.DoChange
			c.Fields, err = pairs(args[1:])
			return err
		})
	retire := newDraft(g, "retire CODE", "Propose to retire a track", exactArgs(1), "  tiermesh proposal draft retire tea --reason 并入农业跑道 --submit",
		func(c *track.Content, _ []string) error { c.Do = track.DoRetire; return nil })
	cmd.AddCommand(add, change, retire)
	return cmd
}

func newDraft(g *global, use, short string, args cobra.PositionalArgs, example string, fill func(*track.Content, []string) error) *cobra.Command {
	var r api.ProposalRequest
	var of, revise string
	cmd := &cobra.Command{
		Use: use, Short: short, Args: args, Example: example, Long: short + ". See tiermesh proposal draft --help.",
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Content.Code, r.Content.Site = args[0], tiers.SiteID(of)
			if err := fill(&r.Content, args); err != nil {
				return err
			}
			if revise != "" && r.Submit {
				return usagef("--revise and --submit: want one of both")
			}
			keyOr(&r.Key)
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				if revise != "" {
					s, err := c.ActOnProposal(ctx, revise, api.ProposalActionRequest{Key: r.Key, Kind: track.ActionRevise, Who: r.Content.Who, Content: &r.Content})
					return g.proposal(cmd.OutOrStdout(), s, err)
				}
				s, err := c.DraftProposal(ctx, r)
				return g.proposal(cmd.OutOrStdout(), s, err)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&of, "of", "", "site in whose catalog the track stands")
	f.StringVar(&r.Content.Reason, "reason", "", "why")
	f.StringVar(&r.Content.Who, "who", "", "the person who proposes it")
	f.BoolVar(&r.Submit, "submit", false, "submit it at once")
	f.StringVar(&revise, "revise", "", "the draft whose content this replaces")
	f.StringVar(&r.Key, "key", "", "idempotency key; made up when left out")
	require(cmd, "reason")
	return cmd
}

func newProposalVerb(g *global, v proposalVerb) *cobra.Command {
	r := api.ProposalActionRequest{Kind: v.name}
	cmd := &cobra.Command{
		Use: v.name + " ID", Short: v.short, Args: exactArgs(1), Long: strings.TrimRight(v.short+".\n"+v.long, "\n"),
		Example: "  tiermesh proposal " + v.name + " proposal:0190f1c2-…" + v.example,
		RunE: func(cmd *cobra.Command, args []string) error {
			keyOr(&r.Key)
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				s, err := c.ActOnProposal(ctx, args[0], r)
				return g.proposal(cmd.OutOrStdout(), s, err)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&r.Who, "who", "", "the person who does it")
	f.StringVar(&r.Key, "key", "", "idempotency key; made up when left out")
	for _, arg := range v.args {
		switch name, required := strings.CutSuffix(arg, "!"); name {
		case "reason":
			f.StringVar(&r.Reason, name, "", "why")
			if required {
				require(cmd, name)
			}
		case "stand-in":
			f.BoolVar(&r.StandIn, name, false, "decide in the place of the site below whose turn it is")
		case "anyway":
			f.BoolVar(&r.Anyway, name, false, "approve although the track is not any more what the author saw")
		}
	}
	return cmd
}
