package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/responder"
)

// bareName takes the kind off an identifier, when it is there.
func bareName(kind, id string) string { return strings.TrimPrefix(id, kind+":") }

func poolLine(p responder.PoolView) string {
	return fmt.Sprintf("%s  %s  %s  until %s (sent until %s, taken back from %s)",
		p.ID, p.State, count(len(p.Pool.Units), "unit"), localTime(p.UntilMS), localTime(p.AssignUntilMS), localTime(p.TakeFromMS))
}

func newPool(g *global) *cobra.Command {
	cmd := newList(g, "pool", "pools", poolColumns)
	cmd.Short = "Lend units to a site below, and take them back"
	cmd.Long = `A pool is units that a site lends to one below it until a time, so that the
borrower can send them while it is cut off. The borrower stops an hour before the
end by its clock, the home takes back from an hour after it by its own: as long
as no clock is wrong by more than an hour, never both may send them. When one is,
the home's next epoch is higher, and terminals refuse the borrower's.`
	cmd.AddCommand(newPoolLend(g), newPoolExtend(g), newPoolHandBack(g), newPoolTakeBack(g))
	return cmd
}

func newPoolLend(g *global) *cobra.Command {
	w := &write{g: g}
	var r api.LendRequest
	var to string
	var lease time.Duration
	cmd := &cobra.Command{
		Use: "lend CODE…", Short: "Lend units to a site below", Args: cobra.MinimumNArgs(1),
		Long: `Lends free units of this site, all or none of those named. --for counts from now by
this machine's clock: 3h at least, of which 1h to 2h are left to the borrower.`,
		Example: "  tiermesh pool lend f1 f2 --to 500101001 --for 72h --reason 汛期前置",
		RunE: func(cmd *cobra.Command, args []string) error {
			return submit(w, cmd, func(ctx context.Context, c *api.Client, key string) (responder.PoolView, error) {
				r.Key, r.Units, r.Child, r.UntilMS = key, args, tiers.SiteID(to), time.Now().Add(lease).UnixMilli()
				return c.Lend(ctx, r)
			}, poolLine)
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "the site that borrows them")
	cmd.Flags().DurationVar(&lease, "for", 24*time.Hour, "how long")
	cmd.Flags().StringVar(&r.Reason, "reason", "", "why")
	w.flag(cmd)
	return cmd
}

// newPoolChange is a command that changes one pool.
func newPoolChange(g *global, use, short, example string, ask func() api.PoolRequest) *cobra.Command {
	w := &write{g: g}
	cmd := &cobra.Command{
		Use: use, Short: short, Args: exactArgs(1), Example: example,
		RunE: func(cmd *cobra.Command, args []string) error {
			return submit(w, cmd, func(ctx context.Context, c *api.Client, key string) (responder.PoolView, error) {
				r := ask()
				r.Key = key
				return c.ChangePool(ctx, bareName(responder.KindPool, args[0]), r)
			}, poolLine)
		},
	}
	w.flag(cmd)
	return cmd
}

func newPoolExtend(g *global) *cobra.Command {
	var lease time.Duration
	cmd := newPoolChange(g, "extend POOL", "Make a lease longer, at the home", "  tiermesh pool extend pool:0190f1c2-… --for 48h", func() api.PoolRequest {
		return api.PoolRequest{Do: api.PoolExtend, UntilMS: time.Now().Add(lease).UnixMilli()}
	})
	cmd.Flags().DurationVar(&lease, "for", 24*time.Hour, "how long from now")
	return cmd
}

func newPoolHandBack(g *global) *cobra.Command {
	return newPoolChange(g, "hand-back POOL", "Give a pool back before its end, at the borrower; its units must be free", "  tiermesh pool hand-back pool:0190f1c2-…", func() api.PoolRequest {
		return api.PoolRequest{Do: api.PoolHandBack}
	})
}

func newPoolTakeBack(g *global) *cobra.Command {
	var r api.PoolRequest
	cmd := newPoolChange(g, "take-back POOL", "Take a pool back, at the home: after the lease, or by force", "  tiermesh pool take-back pool:0190f1c2-… --reason 汛期结束\n  tiermesh pool take-back pool:0190f1c2-… --force --reason 全市调度", func() api.PoolRequest {
		r.Do = api.PoolTakeBack
		return r
	})
	cmd.Flags().BoolVar(&r.Force, "force", false, "before the lease is over; what the borrower sent is fenced")
	cmd.Flags().StringVar(&r.Reason, "reason", "", "why")
	return cmd
}
