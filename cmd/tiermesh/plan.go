package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
)

var catalogColumns = []column{
	{title: "CODE", path: "fields.code"}, {title: "SITE", path: "site"}, {title: "NAME", path: "fields.name"}, {title: "CONFLICTS", path: "conflicts"},
}

func newPlan(g *global) *cobra.Command {
	cmd := newList(g, "plan", "plans", catalogColumns)
	cmd.Short = "List, show and publish response plans (预案)"
	cmd.AddCommand(newPublish(g, "a response plan", `A plan says into which tasks an event fans out, one of them the lead's:
  {"code":"gas-leak","name":"燃气泄漏预案","steps":[
    {"code":"repair","title":"关阀抢修","organ":"城管","role":"lead","limit":{"amount":1,"unit":"urgent_hour"}},
    {"code":"cordon","title":"警戒疏散","organ":"综治","role":"co","limit":{"amount":1,"unit":"urgent_hour"}}]}`,
		func(ctx context.Context, c *api.Client, key string, b []byte) (api.WriteResult, error) {
			var p dispatch.Plan
			if err := strict(b, &p); err != nil {
				return api.WriteResult{}, err
			}
			return c.PublishPlan(ctx, api.PlanRequest{Key: key, Plan: p})
		}))
	return cmd
}

func newCalendar(g *global) *cobra.Command {
	cmd := newList(g, "calendar", "calendars", catalogColumns)
	cmd.Short = "List, show and publish calendars of time limits"
	cmd.AddCommand(newPublish(g, "a calendar", `A calendar says which time counts for limits in working hours and days. Tasks use
the one with code default of the nearest site above. A task keeps the calendar that
it was dispatched under.
  {"code":"default","offset":480,"hours":["09:00-12:00","14:00-18:00"],"weekend":[0,6],
   "holidays":["2026-10-01..2026-10-07"],"workdays":["2026-10-10"]}`,
		func(ctx context.Context, c *api.Client, key string, b []byte) (api.WriteResult, error) {
			var days dispatch.Calendar
			if err := strict(b, &days); err != nil {
				return api.WriteResult{}, err
			}
			return c.PublishCalendar(ctx, api.CalendarRequest{Key: key, Calendar: days})
		}))
	return cmd
}

// newPublish is the command that publishes an entry from a file.
func newPublish(g *global, what, long string, send func(context.Context, *api.Client, string, []byte) (api.WriteResult, error)) *cobra.Command {
	var key string
	cmd := &cobra.Command{
		Use: "publish FILE", Short: "Publish " + what + " in this site's catalog", Args: exactArgs(1), Long: long,
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := os.ReadFile(args[0])
			if err != nil {
				return fmt.Errorf("%w: %w", errInput, err)
			}
			if key == "" {
				key = uuid.NewString()
			}
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				w, err := send(ctx, c, key, b)
				if err != nil {
					return fmt.Errorf("%s: %w", args[0], err)
				}
				if g.output == "json" {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(w)
				}
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s  %s  %d\n", w.ID, w.Stream, w.Seq)
				return err
			})
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "idempotency key; made up when left out")
	return cmd
}

// strict decodes a file's JSON; unknown fields are refused by name.
func strict(b []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("%w: %w", errInput, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: more than one JSON value", errInput)
	}
	return nil
}
