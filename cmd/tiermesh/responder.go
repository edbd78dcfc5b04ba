package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/legible"
	"github.com/tiermesh/tiermesh/tiers/responder"
)

var (
	unitColumns = []column{
		{title: "CODE", path: "code"}, {title: "HOME", path: "site"}, {title: "KIND", path: "kind"}, {title: "NAME", path: "name"},
		{title: "STATUS", path: "status"}, {title: "FREE", path: "free"}, {title: "HOLDER", path: "holder"}, {title: "EPOCH", path: "epoch"},
		{title: "ORGAN", path: "organ", wide: true}, {title: "LAT", path: "position.lat", wide: true}, {title: "LON", path: "position.lon", wide: true},
		{title: "WHY NOT", path: "why", wide: true},
	}
	requestColumns = []column{
		{title: "ID", path: "id"}, {title: "ASKED", path: "request.asked_at_ms"}, {title: "STATE", path: "state"},
		{title: "FROM", path: "request.from"}, {title: "HOME", path: "request.home"}, {title: "UNIT", path: "unit"},
		{title: "EPOCH", path: "epoch"}, {title: "FOR", path: "request.for"}, {title: "REASON", path: "reason"},
	}
	poolColumns = []column{
		{title: "ID", path: "id"}, {title: "STATE", path: "state"}, {title: "HOME", path: "pool.home"}, {title: "LENT TO", path: "pool.child"},
		{title: "UNITS", path: "pool.units"}, {title: "UNTIL", path: "until_ms"}, {title: "SENT UNTIL", path: "assign_until_ms"},
		{title: "TAKEN FROM", path: "take_from_ms"}, {title: "REASON", path: "pool.reason", wide: true},
	}
)

// write is a command that asks the node for one thing under an idempotency key
// and prints the answer, as a line or as JSON.
type write struct {
	g   *global
	key string
}

func (w *write) flag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&w.key, "key", "", "idempotency key; made up when left out")
}

// submit calls f with the key; line is what people see of the answer.
func submit[T any](w *write, cmd *cobra.Command, f func(ctx context.Context, c *api.Client, key string) (T, error), line func(T) string) error {
	key := w.key
	if key == "" {
		key = uuid.NewString()
	}
	return w.g.client(cmd, func(ctx context.Context, c *api.Client) error {
		out, err := f(ctx, c, key)
		if err != nil {
			return err
		}
		return w.g.answer(cmd.OutOrStdout(), out, line(out))
	})
}

// answer prints a line, or the whole as JSON.
func (g *global) answer(to io.Writer, v any, line string) error {
	if g.output == "json" {
		return json.NewEncoder(to).Encode(v)
	}
	_, err := sayln(to, composed(legible.Lines(line, "  ")))
	return err
}

func unitLine(u api.UnitStatus) string {
	state := "free"
	if !u.Free {
		state = u.Why
	}
	return fmt.Sprintf("%s/%s  %s  %s", u.Site, u.Code, u.Status, state)
}

func orderLine(o responder.Order) string {
	if o.NotAfterMS == 0 {
		return fmt.Sprintf("epoch %s  for %s", o.Epoch, o.For)
	}
	return fmt.Sprintf("epoch %s  for %s  not after %s", o.Epoch, o.For, localTime(o.NotAfterMS))
}

func requestLine(r responder.RequestView) string {
	if r.Unit == "" {
		return fmt.Sprintf("%s  %s", r.ID, r.State)
	}
	return fmt.Sprintf("%s  %s  unit %s  epoch %s", r.ID, r.State, r.Unit, r.Epoch)
}

func newResponder(g *global) *cobra.Command {
	cmd := &cobra.Command{
		Use: "responder", Short: "The units that are sent: registry, claims, requests to other sites",
		Long: `A unit (team, person, vehicle, radio, camera, terminal) has one home site, which
gives it to one holder at a time, each time in a higher epoch. The unit's
terminal obeys no order of an epoch below one that it obeyed before, so that it
is never sent to two places, whatever the network does.

A unit of another site is asked for (responder ask); the answer comes when links
allow. A site can lend units to one below it until a time (tiermesh pool): that
one can then send them while it is cut off.`,
		Example: `  tiermesh responder register --code f1 --kind team --name 消防一队 --skill fire --organ 消防救援站
  tiermesh responder set f1 --lat 30.81 --lon 108.38
  tiermesh responder claim f1 --holder task:0190f1c2-…
  tiermesh responder check f1 4294967297`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newUnitList(g), newUnitShow(g), newUnitRegister(g), newUnitSet(g), newUnitClaim(g), newUnitRelease(g), newUnitCheck(g),
		newUnitAsk(g), newUnitRequests(g), newUnitReturn(g),
	)
	return cmd
}

func newUnitList(g *global) *cobra.Command {
	var free bool
	cmd := &cobra.Command{
		Use: "list", Short: "List the units that this site knows", Args: exactArgs(0),
		Long: `Lists this site's units, those lent to it, and those of the sites below it. FREE
says that this site can send the unit now; -o wide says why not.`,
		Example: "  tiermesh responder list\n  tiermesh responder list --free -o wide",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				all, err := c.Units(ctx)
				if err != nil {
					return err
				}
				var items []json.RawMessage
				for _, u := range all.Items {
					if free && !u.Free {
						continue
					}
					b, err := json.Marshal(u)
					if err != nil {
						return err
					}
					items = append(items, b)
				}
				return g.print(cmd.OutOrStdout(), unitColumns, items)
			})
		},
	}
	cmd.Flags().BoolVar(&free, "free", false, "only those that this site can send now")
	return cmd
}

func newUnitShow(g *global) *cobra.Command {
	return subcommand(newList(g, "responder", "responders", nil), "show")
}

// subcommand takes one command out of its parent.
func subcommand(parent *cobra.Command, name string) *cobra.Command {
	for _, c := range parent.Commands() {
		if c.Name() == name {
			parent.RemoveCommand(c)
			return c
		}
	}
	return nil
}

func newUnitRegister(g *global) *cobra.Command {
	w := &write{g: g}
	u := responder.Unit{Status: responder.Available}
	cmd := &cobra.Command{
		Use: "register", Short: "Add a unit to this site's registry", Args: exactArgs(0),
		Example: "  tiermesh responder register --code f1 --kind team --name 消防一队 --skill fire,rescue --organ 消防救援站",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return submit(w, cmd, func(ctx context.Context, c *api.Client, key string) (api.UnitStatus, error) {
				return c.RegisterUnit(ctx, api.UnitRequest{Key: key, Unit: u})
			}, unitLine)
		},
	}
	f := cmd.Flags()
	f.StringVar(&u.Code, "code", "", "its code at this site")
	f.StringVar(&u.Name, "name", "", "what people call it")
	f.StringVar(&u.Kind, "kind", "", fmt.Sprintf("one of %v", responder.Kinds))
	f.StringSliceVar(&u.Skills, "skill", nil, "what it can do, with commas between")
	f.StringVar(&u.Organ, "organ", "", "whose it is")
	f.StringVar(&u.Status, "status", u.Status, fmt.Sprintf("one of %v", responder.Statuses))
	w.flag(cmd)
	return cmd
}

func newUnitSet(g *global) *cobra.Command {
	w := &write{g: g}
	var status string
	var at point
	cmd := &cobra.Command{
		Use: "set CODE", Short: "Set a unit's availability and place", Args: exactArgs(1),
		Example: "  tiermesh responder set f1 --status off_duty\n  tiermesh responder set f1 --lat 30.81 --lon 108.38",
		RunE: func(cmd *cobra.Command, args []string) error {
			return submit(w, cmd, func(ctx context.Context, c *api.Client, key string) (api.UnitStatus, error) {
				r := api.UnitSetRequest{Key: key, Status: status}
				r.Lat, r.Lon = at.given(cmd)
				return c.SetUnit(ctx, args[0], r)
			}, unitLine)
		},
	}
	cmd.Flags().StringVar(&status, "status", "", fmt.Sprintf("one of %v", responder.Statuses))
	at.flags(cmd)
	w.flag(cmd)
	return cmd
}

// point is a place given by flags.
type point struct{ lat, lon float64 }

func (p *point) flags(cmd *cobra.Command) {
	cmd.Flags().Float64Var(&p.lat, "lat", 0, "latitude, degrees")
	cmd.Flags().Float64Var(&p.lon, "lon", 0, "longitude, degrees")
}

// given returns what was given of it; the node refuses one without the other.
func (p *point) given(cmd *cobra.Command) (lat, lon *float64) {
	if cmd.Flags().Changed("lat") {
		lat = &p.lat
	}
	if cmd.Flags().Changed("lon") {
		lon = &p.lon
	}
	return lat, lon
}

func newUnitClaim(g *global) *cobra.Command {
	w := &write{g: g}
	var r api.UnitClaimRequest
	var home string
	cmd := &cobra.Command{
		Use: "claim CODE", Short: "Give a unit to a task, in a new epoch", Args: exactArgs(1),
		Long: `Gives a unit of this site, or one lent to it (--home), to a holder and prints the
epoch, which goes to the unit's terminal with the order. A unit that somebody
holds is refused; --force takes it in a higher epoch, which fences the holder,
and is written down with the reason.`,
		Example: "  tiermesh responder claim f1 --holder task:0190f1c2-…\n  tiermesh responder claim f1 --holder task:0190f1c3-… --force --reason 溃坝",
		RunE: func(cmd *cobra.Command, args []string) error {
			return submit(w, cmd, func(ctx context.Context, c *api.Client, key string) (responder.Order, error) {
				r.Key, r.Home = key, tiers.SiteID(home)
				return c.ClaimUnit(ctx, args[0], r)
			}, orderLine)
		},
	}
	cmd.Flags().StringVar(&home, "home", "", "the unit's home site; this one when left out")
	cmd.Flags().StringVar(&r.Holder, "holder", "", "what it is claimed for, such as a task")
	cmd.Flags().BoolVar(&r.Force, "force", false, "take it from whoever has it")
	cmd.Flags().StringVar(&r.Reason, "reason", "", "why it is taken by force")
	w.flag(cmd)
	return cmd
}

func newUnitRelease(g *global) *cobra.Command {
	w := &write{g: g}
	var home string
	cmd := &cobra.Command{
		Use: "release CODE EPOCH", Short: "Free a unit that was claimed in an epoch", Args: exactArgs(2),
		Example: "  tiermesh responder release f1 4294967297",
		RunE: func(cmd *cobra.Command, args []string) error {
			epoch, err := responder.ParseEpoch(args[1])
			if err != nil {
				return usagef("%v", err)
			}
			return submit(w, cmd, func(ctx context.Context, c *api.Client, key string) (api.UnitStatus, error) {
				return c.ReleaseUnit(ctx, args[0], api.UnitReleaseRequest{Key: key, Home: tiers.SiteID(home), Epoch: epoch})
			}, unitLine)
		},
	}
	cmd.Flags().StringVar(&home, "home", "", "the unit's home site; this one when left out")
	w.flag(cmd)
	return cmd
}

func newUnitCheck(g *global) *cobra.Command {
	var home, last string
	cmd := &cobra.Command{
		Use: "check CODE EPOCH", Short: "What the unit's terminal would do about an order of an epoch", Args: exactArgs(2),
		Long: `Checks an epoch as a terminal does: it obeys when the epoch is that of the grant
that stands, is not below the highest that it obeyed (--last), and the lease
under which it was given has not ended. Ends with code 6 when it would not obey.`,
		Example: "  tiermesh responder check f1 4294967297\n  tiermesh responder check f1 4294967298.4294967297 --home 500101 --last 4294967298",
		RunE: func(cmd *cobra.Command, args []string) error {
			r := api.UnitCheckRequest{Home: tiers.SiteID(home)}
			var err error
			if r.Epoch, err = responder.ParseEpoch(args[1]); err == nil && last != "" {
				r.Last, err = responder.ParseEpoch(last)
			}
			if err != nil {
				return usagef("%v", err)
			}
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				v, err := c.CheckUnit(ctx, args[0], r)
				if err != nil {
					return err
				}
				if !v.Obey {
					return fmt.Errorf("%w: %s", api.ErrRejected, v.Reason)
				}
				return g.answer(cmd.OutOrStdout(), v, "obey: "+orderLine(v.Order))
			})
		},
	}
	cmd.Flags().StringVar(&home, "home", "", "the unit's home site; this one when left out")
	cmd.Flags().StringVar(&last, "last", "", "the highest epoch that the terminal has obeyed")
	return cmd
}

func newUnitAsk(g *global) *cobra.Command {
	w := &write{g: g}
	var r api.UnitAskRequest
	var home string
	var at point
	cmd := &cobra.Command{
		Use: "ask", Short: "Ask another site for a unit", Args: exactArgs(0),
		Long: `Asks the home site of a unit for it, by code or by skill. The request travels as a
document: the answer, granted in an epoch or refused with a reason, comes when
links allow. Between two sites of which neither is above the other, the nearest
site above both passes it on. See it with: tiermesh responder requests`,
		Example: "  tiermesh responder ask --home 500101002 --skill fire --for task:0190f1c2-… --reason 火势蔓延",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return submit(w, cmd, func(ctx context.Context, c *api.Client, key string) (responder.RequestView, error) {
				r.Key, r.Home = key, tiers.SiteID(home)
				r.Lat, r.Lon = at.given(cmd)
				return c.AskUnit(ctx, r)
			}, requestLine)
		},
	}
	f := cmd.Flags()
	f.StringVar(&home, "home", "", "the site to ask")
	f.StringVar(&r.Unit, "unit", "", "the unit's code")
	f.StringVar(&r.Skill, "skill", "", "any free unit with this skill, the nearest to --lat and --lon")
	f.StringVar(&r.For, "for", "", "what it is for, such as a task")
	f.StringVar(&r.Reason, "reason", "", "why")
	at.flags(cmd)
	w.flag(cmd)
	return cmd
}

func newUnitRequests(g *global) *cobra.Command {
	cmd := subcommand(newList(g, "unitrequest", "unitrequests", requestColumns), "list")
	cmd.Use, cmd.Short, cmd.Example = "requests", "List requests for units, of this site and to it", "  tiermesh responder requests"
	return cmd
}

func newUnitReturn(g *global) *cobra.Command {
	w := &write{g: g}
	cmd := &cobra.Command{
		Use: "return REQUEST", Short: "Give back what was granted, or take a request back", Args: exactArgs(1),
		Example: "  tiermesh responder return unitrequest:0190f1c2-…",
		RunE: func(cmd *cobra.Command, args []string) error {
			return submit(w, cmd, func(ctx context.Context, c *api.Client, key string) (responder.RequestView, error) {
				return c.ReturnUnit(ctx, bareName(responder.KindRequest, args[0]), api.KeyRequest{Key: key})
			}, requestLine)
		},
	}
	w.flag(cmd)
	return cmd
}
