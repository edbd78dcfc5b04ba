package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers/command"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// shortKinds are, by the word in a command's use, or by the name of the command above it
// for ID, the kinds of documents whose last digits it takes.
var shortKinds = map[string]string{
	"EVENT": event.Kind, "ORDER": command.KindOrder,
	"event": event.Kind, "attachment": event.Kind, "quarantine": event.KindQuarantine, "task": dispatch.KindTask, "order": command.KindOrder,
}

// withShortIDs makes the commands below one take the last digits of an identifier,
// as lists show them. The node is asked first which one they name, so that what is
// written, and written again, names it in full.
func withShortIDs(g *global, parent *cobra.Command) {
	for _, cmd := range parent.Commands() {
		withShortIDs(g, cmd)
		_, words, _ := strings.Cut(cmd.Use, " ")
		word, _, _ := strings.Cut(strings.Trim(words, "[]"), " ") // brackets mark what may be left out
		if word == "ID" {
			word = parent.Name()
		}
		kind, ok := shortKinds[word]
		if run := cmd.RunE; ok && run != nil {
			cmd.RunE = func(cmd *cobra.Command, args []string) error {
				whole, err := g.wholeIDs(cmd, kind, args)
				if err != nil {
					return err
				}
				return run(cmd, whole)
			}
		}
	}
}

// wholeIDs replaces the arguments that may be an identifier's last digits by the
// identifier.
func (g *global) wholeIDs(cmd *cobra.Command, kind string, args []string) ([]string, error) {
	out := append([]string(nil), args...)
	for i, arg := range args {
		if !api.IsShort(arg) {
			continue
		}
		err := g.client(cmd, func(ctx context.Context, c *api.Client) error {
			id, err := c.Resolve(ctx, kind, arg)
			out[i] = string(id)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}
