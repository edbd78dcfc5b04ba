package main

import (
	"context"
	"fmt"
	"regexp"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers"
)

const (
	// pageMax is how many rows one request asks for.
	pageMax = 500
	// listDefault is how many rows a list shows unless more are asked for.
	listDefault = 50
)

// listing is how much of a list is shown. Each command that lists has it, so that none
// is cut off without a word.
type listing struct {
	limit int
	after string
	all   bool

	moved func() // is called with each page that came; nil does nothing

	rest string // what follows is behind it; empty at the end
	more int    // how many there are behind it, as far as that was counted
	open bool   // there are more than that
}

func (l *listing) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.IntVar(&l.limit, "limit", listDefault, "how many to show at most; see --all")
	f.StringVar(&l.after, "after", "", "go on behind a page: what the end of that one says")
	f.BoolVar(&l.all, "all", false, "show all there are")
	cmd.MarkFlagsMutuallyExclusive("limit", "all")
}

// lists runs f against the node, as client does. The time-out is that of a page: a list
// takes as long as it is long.
func (g *global) lists(cmd *cobra.Command, l *listing, f func(ctx context.Context, c *api.Client) error) error {
	return g.transfer(cmd, func(ctx context.Context, c *api.Client, moved func()) error {
		l.moved = moved
		return f(ctx, c.Reading(g.read))
	})
}

// check refuses a limit that shows nothing.
func (l *listing) check() error {
	if l.limit < 1 {
		return usagef("--limit %d: want 1 or more; for all there are, --all", l.limit)
	}
	return nil
}

// pages collects the rows of a listing, most a request. page returns the rows behind a
// place and the next place, empty at the end. One more page is counted of what is not
// shown.
func pages[T any](l *listing, most int, page func(limit int, after string) ([]T, string, error)) (rows []T, err error) {
	if err := l.check(); err != nil {
		return nil, err
	}
	l.rest, l.more, l.open = l.after, 0, false
	ask := page
	page = func(limit int, after string) ([]T, string, error) {
		some, next, err := ask(limit, after)
		if err == nil && l.moved != nil {
			l.moved()
		}
		return some, next, err
	}
	for {
		n := most
		if !l.all {
			n = min(l.limit-len(rows), most)
		}
		some, next, err := page(n, l.rest)
		if err != nil {
			return nil, err
		}
		rows = append(rows, some...)
		if l.rest = next; next == "" {
			return rows, nil
		}
		if !l.all && len(rows) >= l.limit {
			break
		}
	}
	behind, next, err := page(most, l.rest)
	if err != nil {
		return nil, err
	}
	if l.more, l.open = len(behind), next != ""; l.more == 0 && !l.open {
		l.rest = ""
	}
	return rows, nil
}

// simple matches what needs no quotes in a shell.
var simple = regexp.MustCompile(`^[A-Za-z0-9:._/=@,+-]+$`)

// end says, beside a list that was shown, that there is more of it and how to see it.
func (l *listing) end(cmd *cobra.Command, err error) error {
	if err != nil || l.rest == "" {
		return err
	}
	after, least := l.rest, ""
	if !simple.MatchString(after) {
		after = fmt.Sprintf("'%s'", after)
	}
	if l.open {
		least = "at least "
	}
	_, err = fmt.Fprintf(cmd.ErrOrStderr(), "%s%d more: --after %s, or --all\n", least, l.more, after)
	return err
}

// knownSite refuses a list that is empty since nobody has heard of its site.
func knownSite(ctx context.Context, c *api.Client, site tiers.SiteID, rows int) error {
	if site == "" || rows > 0 {
		return nil
	}
	t, err := c.Topology(ctx)
	if err != nil {
		return err
	}
	if _, ok := t.Site(site); !ok {
		return fmt.Errorf("%w: no site %.32q is in the topology; see tiermesh topology show", api.ErrNotFound, string(site))
	}
	return nil
}
