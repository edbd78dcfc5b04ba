package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/track"
)

var (
	trackColumns = []column{
		{title: "CODE", path: "fields.code"}, {title: "SITE", path: "site"}, {title: "BOARD", path: "fields.board"},
		{title: "NAME", path: "fields.name"}, {title: "OWNER", path: "fields.owner"}, {title: "TARGET", path: "fields.target"},
		{title: "CONFLICTS", path: "conflicts"}, {title: "ORIGIN", path: "fields.origin", wide: true},
		{title: "PARENT", path: "fields.parent", wide: true}, {title: "STATE", path: "fields.state", wide: true},
		{title: "DAYS", path: "fields.deadline_days", wide: true},
	}
	boardColumns = []column{
		{title: "CODE", path: "fields.code"}, {title: "SITE", path: "site"}, {title: "NAME", path: "fields.name"}, {title: "TIER", path: "fields.tier"},
		{title: "CONFLICTS", path: "conflicts", wide: true},
	}
	adoptionColumns = []column{
		{title: "CODE", path: "code"}, {title: "SITE", path: "site"}, {title: "FROM", path: "from"}, {title: "ADOPTED", path: "adopted_at_ms"},
		{title: "REFRESHED", path: "refreshed_at_ms"}, {title: "WHO", path: "who", wide: true},
	}
)

func newBoard(g *global) *cobra.Command {
	cmd := newList(g, "board", "boards", boardColumns)
	cmd.Short = "List, show and define boards"
	cmd.Long = `A board (板块) is a domain of governance. The city has 8, a township 4 of its own;
"tiermesh track publish --defaults" at the city publishes them. A site sees its
own boards and those of the sites above it.`
	var r api.BoardRequest
	var tier string
	define := &cobra.Command{
		Use: "define CODE", Short: "Define a board in this site's catalog, or change its name", Args: exactArgs(1),
		Long: `Defines a board. --tier is the highest tier whose tracks may stand under it: this
site's when left out. A code that a site above has cannot be defined again here.`,
		Example: "  tiermesh board define town-economy --name 经济发展 --tier township",
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Board.Code = args[0]
			if tier != "" {
				if err := r.Board.Tier.UnmarshalText([]byte(tier)); err != nil {
					return usagef("--tier %q: want city, district or township", tier)
				}
			}
			keyOr(&r.Key)
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				w, err := c.DefineBoard(ctx, r)
				return g.written(cmd, w, err)
			})
		},
	}
	f := define.Flags()
	f.StringVar(&r.Board.Name, "name", "", "name")
	f.StringVar(&tier, "tier", "", "city, district or township")
	f.StringVar(&r.Key, "key", "", "idempotency key; made up when left out")
	cmd.AddCommand(define)
	return cmd
}

// keyOr makes up an idempotency key when none was given.
func keyOr(key *string) {
	if *key == "" {
		*key = uuid.NewString()
	}
}

// written prints where a write stands.
func (g *global) written(cmd *cobra.Command, w api.WriteResult, err error) error {
	if err != nil {
		return err
	}
	if g.output == "json" {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(w)
	}
	_, err = say(cmd.OutOrStdout(), "%s  %s  %d\n", w.ID, w.Stream, w.Seq)
	return err
}

func newTrack(g *global) *cobra.Command {
	cmd := newList(g, "track", "tracks", trackColumns)
	cmd.Short = "List, show, add, adopt and edit tracks"
	cmd.Long = `A track (跑道) is a business line under a board, a sub-track (子跑道) one under a
track. The city publishes them; a lower site adopts (承接) a track from above, and
adds local ones (特色跑道) after approval: see "tiermesh proposal --help".
Everything works while links are cut. What two sites wrote apart shows as a
conflict until somebody resolves it.`
	adoptions := newList(g, "adoptions", "adoptions", adoptionColumns)
	for _, sub := range adoptions.Commands() {
		if sub.Name() == "list" {
			sub.Use, sub.Short = "adoptions", "List the receipts of adopted tracks"
			sub.Example = "  tiermesh track adoptions --site 500101"
			cmd.AddCommand(sub)
		}
	}
	cmd.AddCommand(newTrackEdit(g), newTrackRetire(g), newTrackAdd(g), newTrackPublish(g), newTrackAdopt(g), newTrackConflicts(g), newTrackResolve(g), newTrackTree(g))
	return cmd
}

// siteOr is the site asked for, or the node's own.
func siteOr(ctx context.Context, c *api.Client, site string) (tiers.SiteID, error) {
	if site != "" {
		return tiers.SiteID(site), nil
	}
	s, err := c.Status(ctx)
	return s.Site, err
}

// pairs reads arguments of the form FIELD=VALUE.
func pairs(args []string) (map[string]string, error) {
	fields := map[string]string{}
	for _, a := range args {
		name, value, ok := strings.Cut(a, "=")
		if !ok {
			return nil, usagef("%q: want FIELD=VALUE", a)
		}
		fields[name] = value
	}
	return fields, nil
}

func newTrackEdit(g *global) *cobra.Command {
	var site, key string
	var confirm bool
	edit := &cobra.Command{
		Use: "edit CODE FIELD=VALUE…", Short: "Set fields of a track", Args: cobra.MinimumNArgs(2),
		Long: `Sets fields of the track in the catalog stream of --site, which this site or
one below it must be. Writing a field again resolves its conflict.

A field that has the value already is left alone: nothing says that you saw it.
--confirm writes it all the same, as seen by this site now, so that another site's
edit that was made without having seen it becomes a conflict and not the last word.
Fields: name, owner, target, description, deadline_days, state (active or retired).`,
		Example: "  tiermesh track edit flood-control target=15分钟到场 --site 500101\n  tiermesh track edit flood-control state=retired --confirm",
		RunE: func(cmd *cobra.Command, args []string) error {
			fields, err := pairs(args[1:])
			if err != nil {
				return err
			}
			return g.editTrack(cmd, api.EditRequest{Key: key, Site: tiers.SiteID(site), Code: args[0], Fields: fields, Confirm: confirm})
		},
	}
	edit.Flags().StringVar(&site, "site", "", "whose catalog stream; this node's site when left out")
	edit.Flags().StringVar(&key, "key", "", "idempotency key; made up when left out")
	edit.Flags().BoolVar(&confirm, "confirm", false, "write also what has that value already, as confirmed now")
	return edit
}

func (g *global) editTrack(cmd *cobra.Command, r api.EditRequest) error {
	keyOr(&r.Key)
	return g.client(cmd, func(ctx context.Context, c *api.Client) (err error) {
		if r.Site, err = siteOr(ctx, c, string(r.Site)); err != nil {
			return err
		}
		w, err := c.EditTrack(ctx, r)
		return g.written(cmd, w, err)
	})
}

func newTrackRetire(g *global) *cobra.Command {
	var site, key string
	cmd := &cobra.Command{
		Use: "retire CODE", Short: "Retire a track of this site or of one below it", Args: exactArgs(1),
		Long: `Retires a track: it stays in the catalog and in the tree, marked as retired.
"tiermesh track edit CODE state=active" takes that back. A track of a site above is
retired by a proposal.`,
		Example: "  tiermesh track retire flood-control",
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.editTrack(cmd, api.EditRequest{
				Key: key, Site: tiers.SiteID(site), Code: args[0], Fields: map[string]string{track.FieldState: track.StateRetired},
			})
		},
	}
	cmd.Flags().StringVar(&site, "site", "", "whose catalog stream; this node's site when left out")
	cmd.Flags().StringVar(&key, "key", "", "idempotency key; made up when left out")
	return cmd
}

// trackFlags adds the flags that describe a new track.
func trackFlags(cmd *cobra.Command, t *track.Track) {
	f := cmd.Flags()
	f.StringVar(&t.Board, "board", "", "code of its board")
	f.StringVar(&t.Name, "name", "", "name")
	f.StringVar(&t.Owner, "owner", "", "organ that leads")
	f.StringVar(&t.Target, "target", "", "what it is held to")
	f.StringVar(&t.Description, "description", "", "description")
	f.StringVar(&t.Parent, "parent", "", "code of the track that it is a sub-track of")
	f.IntVar(&t.DeadlineDays, "deadline-days", 0, "default time limit of its tasks; 0 for none")
}

func newTrackAdd(g *global) *cobra.Command {
	var t track.Track
	r := api.TracksRequest{New: true}
	cmd := &cobra.Command{
		Use: "add CODE", Short: "Add a track to the city's catalog", Args: exactArgs(1),
		Long: `Adds a track or sub-track at the city. A lower site's track needs approval: there,
use "tiermesh proposal draft add".`,
		Example: "  tiermesh track add reservoirs --board emergency --name 水库防汛 --owner 水利局 --parent flood-control",
		RunE: func(cmd *cobra.Command, args []string) error {
			t.Code = args[0]
			r.Tracks = []track.Track{t}
			keyOr(&r.Key)
			return g.publishTracks(cmd, r)
		},
	}
	trackFlags(cmd, &t)
	cmd.Flags().StringVar(&r.Key, "key", "", "idempotency key; made up when left out")
	require(cmd, "board", "name")
	return cmd
}

func newTrackPublish(g *global) *cobra.Command {
	var r api.TracksRequest
	var defaults bool
	cmd := &cobra.Command{
		Use: "publish [FILE]", Short: "Publish boards and tracks in the city's catalog, from a file or the defaults", Args: cobra.MaximumNArgs(1),
		Long: `Adds boards and tracks to the city's catalog, all or none; those that are there
stay as they are. FILE is JSON such as
  {"boards":[{"code":"economy","name":"经济发展"}],
   "tracks":[{"code":"investment","board":"economy","name":"招商引资","deadline_days":60}]}
--defaults takes the city's 8 boards, the townships' 4 and 70 tracks.`,
		Example: "  tiermesh track publish --defaults\n  tiermesh track publish tracks.json",
		RunE: func(cmd *cobra.Command, args []string) error {
			if defaults == (len(args) == 1) {
				return usagef("want a file or --defaults")
			}
			key := r.Key
			if defaults {
				r.Boards, r.Tracks = track.DefaultBoards(), track.DefaultTracks()
			} else {
				b, err := os.ReadFile(args[0])
				if err != nil {
					return fmt.Errorf("%w: %w", errInput, err)
				}
				dec := json.NewDecoder(strings.NewReader(string(b)))
				dec.DisallowUnknownFields()
				if err := dec.Decode(&r); err != nil {
					return fmt.Errorf("%w: %s: %w", errInput, args[0], err)
				}
			}
			r.Key = key
			keyOr(&r.Key)
			return g.publishTracks(cmd, r)
		},
	}
	cmd.Flags().BoolVar(&defaults, "defaults", false, "publish the default boards and tracks")
	cmd.Flags().StringVar(&r.Key, "key", "", "idempotency key; made up when left out")
	return cmd
}

func (g *global) publishTracks(cmd *cobra.Command, r api.TracksRequest) error {
	return g.client(cmd, func(ctx context.Context, c *api.Client) error {
		out, err := c.PublishTracks(ctx, r)
		if err != nil {
			return err
		}
		if g.output == "json" {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(out)
		}
		_, err = say(cmd.OutOrStdout(), "%s and %s added\n", count(out.Boards, "board"), count(out.Tracks, "track"))
		return err
	})
}

func newTrackAdopt(g *global) *cobra.Command {
	var r api.AdoptRequest
	var from string
	cmd := &cobra.Command{
		Use: "adopt CODE [FIELD=VALUE…]", Short: "Adopt (承接) a track from above, or refresh what was adopted", Args: cobra.MinimumNArgs(1),
		Long: `Copies a track from the catalog above into this site's own, with a receipt that
goes up. Fields given are this site's own values. From then on this site and those
above it may edit the copy; "track tree" shows what the original changed since.
--refresh takes that over; fields with a value of this site's own keep it, unless
--all is given.`,
		Example: "  tiermesh track adopt flood-control\n  tiermesh track adopt flood-control target=20分钟到场 owner=区应急局\n  tiermesh track adopt flood-control --refresh",
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if r.Fields, err = pairs(args[1:]); err != nil {
				return err
			}
			r.Code, r.From = args[0], tiers.SiteID(from)
			keyOr(&r.Key)
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				out, err := c.AdoptTrack(ctx, r)
				if err != nil {
					return err
				}
				if g.output == "json" {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(out)
				}
				return printAdoption(cmd.OutOrStdout(), out, r.Refresh)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&from, "from", "", "site whose track it is; the nearest above that has it when left out")
	f.StringVar(&r.Who, "who", "", "the person who does it")
	f.BoolVar(&r.Refresh, "refresh", false, "take over what the original changed since")
	f.BoolVar(&r.All, "all", false, "with --refresh: also give up this site's own values")
	f.StringVar(&r.Key, "key", "", "idempotency key; made up when left out")
	return cmd
}

func printAdoption(w io.Writer, r api.AdoptResult, refreshed bool) error {
	say(w, "%s  adopted from %s at %s\n", r.Adoption.Code, r.Adoption.From, localTime(r.Adoption.AdoptedAtMS))
	if refreshed && len(r.Set)+len(r.Kept) == 0 {
		sayln(w, "nothing changed since")
	}
	for _, name := range sortedKeys(r.Set) {
		say(w, "taken over: %s = %s\n", name, r.Set[name])
	}
	for _, name := range r.Kept {
		say(w, "kept as it is here: %s; take the original's with --refresh --all\n", name)
	}
	return nil
}
