package main

import (
	"errors"
	"strings"

	"github.com/spf13/cobra"
)

// suggestionDistance is how many letters a suggested command may differ in.
const suggestionDistance = 2

// refuseUnknown makes every command of a tree refuse arguments that it does not take
// as a mistake in the command line, and every parent a subcommand that it does not
// have, with those that it has by nearly that name.
func refuseUnknown(c *cobra.Command) {
	c.SuggestionsMinimumDistance = suggestionDistance
	if c.Name() == "help" && !c.HasSubCommands() {
		c.Args = knownTopic
	} else {
		c.Args = refusing(c.Args, c.HasSubCommands())
	}
	if c.HasSubCommands() && !c.Runnable() {
		c.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
	for _, sub := range c.Commands() {
		refuseUnknown(sub)
	}
}

func refusing(takes cobra.PositionalArgs, parent bool) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		var err error
		switch {
		case takes != nil:
			err = takes(cmd, args)
		case parent && len(args) > 0:
			err = unknownCommand(cmd, args[0])
		}
		var usage usageError
		switch {
		case err == nil:
			return nil
		case parent:
			return unknownCommand(cmd, args[0])
		case errors.As(err, &usage):
			return err
		}
		return usagef("%v; see %s --help", err, cmd.CommandPath())
	}
}

func unknownCommand(parent *cobra.Command, name string) error {
	near := parent.SuggestionsFor(name)
	meant := ""
	if len(near) > 0 {
		meant = "; did you mean " + strings.Join(near, " or ") + "?"
	}
	return usagef("unknown command %q of %s%s; see %[2]s --help", name, parent.CommandPath(), meant)
}

// knownTopic takes the path of a command.
func knownTopic(cmd *cobra.Command, args []string) error {
	at := cmd.Root()
	for _, name := range args {
		i := at
		for _, sub := range at.Commands() {
			if sub.Name() == name || sub.HasAlias(name) {
				i = sub
			}
		}
		if i == at {
			return unknownCommand(at, name)
		}
		at = i
	}
	return nil
}
