package main

import (
	"context"
	"encoding/json"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/api"
)

func newAlarm(g *global) *cobra.Command {
	cmd := &cobra.Command{
		Use: "alarm", Short: "List what a node found that somebody should see to, and say who did",
		Long: `A node notes what an operator should see: a refused peer, a chain that forks, rows
in quarantine, a site that is retired. "tiermesh status" shows what nobody has
acknowledged. An acknowledgement ends when the finding says something else. Alarms
are of the node that is asked, and live as long as its process: what still is so
after a start is found again.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	list := &cobra.Command{
		Use: "list", Short: "List the node's alarms, the latest last, and who acknowledged them", Args: exactArgs(0),
		Example: "  tiermesh alarm list\n  tiermesh alarm list -o json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				all, err := c.Alarms(ctx)
				if err != nil {
					return err
				}
				return g.printAlarms(cmd.OutOrStdout(), all)
			})
		},
	}
	var a api.AlarmAck
	ack := &cobra.Command{
		Use: "ack ID... --who NAME", Short: "Say that somebody has seen to alarms", Args: rangeArgs(1, 256),
		Example: "  tiermesh alarm ack 4f0c --who 张三 --note 已通知万州区重新签发证书",
		RunE: func(cmd *cobra.Command, args []string) error {
			a.IDs = args
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				all, err := c.Acknowledge(ctx, a)
				if err != nil {
					return err
				}
				return g.printAlarms(cmd.OutOrStdout(), all)
			})
		},
	}
	ack.Flags().StringVar(&a.Who, "who", "", "the person who has seen to them, required")
	ack.Flags().StringVar(&a.Note, "note", "", "what was done about them")
	require(ack, "who")
	cmd.AddCommand(list, ack)
	return cmd
}

func (g *global) printAlarms(w io.Writer, all api.AlarmList) error {
	if g.output == "json" {
		return json.NewEncoder(w).Encode(all)
	}
	var rows [][]string
	for _, x := range all.Alarms {
		ack := "-"
		if x.Ack != nil {
			ack = x.Ack.Who + ", " + localTime(x.Ack.At.UnixMilli())
			if x.Ack.Note != "" {
				ack += ": " + x.Ack.Note
			}
		}
		rows = append(rows, []string{x.ID, localTime(x.Last.UnixMilli()), strconv.Itoa(x.Times), x.Kind, x.Text, ack})
	}
	return table(w, []string{"ID", "LAST FOUND", "TIMES", "KIND", "WHAT", "ACKNOWLEDGED"}, rows)
}
