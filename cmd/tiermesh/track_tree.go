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

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/track"
)

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

func newTrackConflicts(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "conflicts", Short: "All unresolved conflicts of tracks, each value with who wrote it when", Args: exactArgs(0),
		Long: `Lists every field that sites wrote while they did not hear of each other, with all
its values, the one that counts for now first: its site, the writer there (actor)
and the time. Resolve one with "tiermesh track resolve".`,
		Example: "  tiermesh track conflicts\n  tiermesh track conflicts -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				list, err := c.TrackConflicts(ctx)
				if err != nil {
					return err
				}
				if g.output == "json" {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(list)
				}
				var rows [][]string
				for _, t := range list.Tracks {
					for _, f := range t.Conflicts {
						for i, v := range f.Values {
							rows = append(rows, []string{
								t.Code, string(t.Site), f.Field, fmt.Sprint(i + 1), fmt.Sprint(v.Value), string(v.Site), v.Actor,
								localTime(v.AtMS),
							})
						}
					}
				}
				return table(cmd.OutOrStdout(), []string{"CODE", "SITE", "FIELD", "N", "VALUE", "BY", "ACTOR", "AT"}, rows)
			})
		},
	}
}

func newTrackResolve(g *global) *cobra.Command {
	var r api.ResolveRequest
	var site, value string
	cmd := &cobra.Command{
		Use: "resolve CODE FIELD", Short: "Settle the conflict of a field", Args: exactArgs(2),
		Long: `Writes a field that has a conflict again: with the value that "track conflicts"
lists as number --take, or with another --value. The conflict is gone wherever that
is heard.`,
		Example: "  tiermesh track resolve flood-control target --site 500101 --take 2\n  tiermesh track resolve flood-control target --value 20分钟到场",
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Code, r.Field = args[0], args[1]
			if cmd.Flags().Changed("value") {
				r.Value = &value
			}
			if (r.Value == nil) == (r.Take == 0) {
				return usagef("want one of --take and --value")
			}
			keyOr(&r.Key)
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				var err error
				if r.Site, err = siteOr(ctx, c, site); err != nil {
					return err
				}
				w, err := c.ResolveTrack(ctx, r)
				return g.written(cmd, w, err)
			})
		},
	}
	f := cmd.Flags()
	f.IntVar(&r.Take, "take", 0, "number of the value to keep, as track conflicts lists it")
	f.StringVar(&value, "value", "", "another value")
	f.StringVar(&site, "site", "", "whose catalog stream; this node's site when left out")
	f.StringVar(&r.Key, "key", "", "idempotency key; made up when left out")
	return cmd
}

func newTrackTree(g *global) *cobra.Command {
	var site string
	cmd := &cobra.Command{
		Use: "tree", Short: "Boards, tracks and sub-tracks as a site sees them", Args: exactArgs(0),
		Long: `Shows boards, tracks and sub-tracks as they are at a site, as far as this one
knows, and how old that knowledge is. MARK says where a track is from: own (the
city's), above (of a site above, not adopted), adopted (承接), local (特色跑道) or
proposed. NOTES name values of the site's own, what the original changed since it
was adopted, conflicts and undecided proposals. A track is overruled when the
approval by which it was added lost to another site's rejection. At a site of
several nodes ask with --read leader, since its links are the leader's.`,
		Example: "  tiermesh track tree\n  tiermesh track tree --site 500101001",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				t, err := c.TrackTree(ctx, tiers.SiteID(site))
				if err != nil {
					return err
				}
				if g.output == "json" {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(t)
				}
				return printTree(cmd.OutOrStdout(), t, g.output == "wide", time.Now())
			})
		},
	}
	cmd.Flags().StringVar(&site, "site", "", "whose tree; this node's site when left out")
	return cmd
}

// heardText says how old what is known of a site is.
func heardText(h api.Heard, now time.Time) string {
	text := fmt.Sprintf("%s %s", h.Site, h.Name)
	if h.Via == "" {
		return text + ": not heard since this node started"
	}
	if h.Via != h.Site {
		text += " via " + string(h.Via)
	}
	asOf := "unknown"
	if h.AsOf != nil {
		asOf = clock(*h.AsOf)
	}
	return fmt.Sprintf("%s: %s, as of %s, last contact %s", text, h.Link, asOf, ago(h.LastContact, now))
}

// markNames are the marks in the words of the measures, for -o wide.
var markNames = map[string]string{track.MarkLocal: "local 特色跑道", track.MarkAdopted: "adopted 承接", track.MarkProposed: "proposed 报请批准"}

func printTree(w io.Writer, t api.TrackTree, wide bool, now time.Time) error {
	say(w, "%s %s (%s)\n", t.Site, t.Name, t.Tier)
	for _, h := range t.Heard {
		sayln(w, heardText(h, now))
	}
	sayln(w)
	header := []string{"CODE", "NAME", "SITE", "MARK", "STATE", "TARGET", "NOTES"}
	if wide {
		header = append(header, "OWNER", "DAYS")
	}
	var rows [][]string
	var add func(indent string, leaves []track.Leaf)
	add = func(indent string, leaves []track.Leaf) {
		for _, l := range leaves {
			row := []string{indent + l.Code, l.Name, string(l.Site), l.Mark, l.State, dashed(l.Target), dashed(leafNotes(l))}
			if wide {
				if name := markNames[l.Mark]; name != "" {
					row[3] = name
				}
				row = append(row, dashed(l.Owner), dashed(l.Deadline))
			}
			rows = append(rows, row)
			add(indent+"  ", l.SubTracks)
		}
	}
	for _, b := range t.Boards {
		name, site := b.Name, string(b.Site)
		if b.Site == "" {
			name, site = "(no catalog has this board)", "-"
		}
		rows = append(rows, []string{b.Code, name, site, "board", "-", "-", "-"})
		add("  ", b.Tracks)
	}
	return table(w, header, rows)
}

// dashed is a text on one line, or a dash for nothing.
func dashed(s string) string {
	if s = strings.Join(strings.Fields(s), " "); s == "" || s == "0" {
		return "-"
	}
	return s
}

// leafNotes is what is special about a track.
func leafNotes(l track.Leaf) string {
	var notes []string
	if l.From != "" {
		notes = append(notes, "from "+string(l.From))
	}
	if len(l.Overrides) > 0 {
		notes = append(notes, "own "+strings.Join(l.Overrides, ", "))
	}
	for _, d := range l.Drift {
		notes = append(notes, fmt.Sprintf("origin changed %s: theirs %q, ours %q", d.Field, d.Theirs, d.Ours))
	}
	for _, c := range l.Conflicts {
		notes = append(notes, fmt.Sprintf("conflict: %s has %s", c.Field, count(len(c.Values), "value")))
	}
	for _, p := range l.Proposals {
		notes = append(notes, fmt.Sprintf("%s %s: %s by %s", p.State, p.ID, p.Do, p.Site))
	}
	return strings.Join(notes, "; ")
}
