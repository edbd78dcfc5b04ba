package main

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestListsSayWhatTheyLeaveOut: what is shown and what is said to follow are all there
// is, the place that is named goes on there, and nothing is said at the end.
func TestListsSayWhatTheyLeaveOut(t *testing.T) {
	for _, row := range []struct {
		total int
		args  string
		shown int
		says  string
	}{
		{0, "", 0, ""}, {50, "", 50, ""}, {51, "", 50, "1 more: --after 50, or --all\n"}, {70, "", 50, "20 more: --after 50, or --all\n"},
		{70, "--limit 10", 10, "60 more: --after 10, or --all\n"}, {70, "--after 50", 20, ""}, {70, "--all", 70, ""},
		{2000, "--limit 600", 600, "at least 500 more: --after 600, or --all\n"}, {2000, "--all", 2000, ""}, {1100, "--limit 600", 600, "500 more: --after 600, or --all\n"},
		{5, "--limit 0", -1, ""}, {5, "--limit -1", -1, ""},
	} {
		t.Run(fmt.Sprint(row.total, row.args), func(t *testing.T) {
			var l listing
			var diagnostics bytes.Buffer
			asked, moved := 0, 0
			l.moved = func() { moved++ }
			cmd := &cobra.Command{}
			cmd.SetErr(&diagnostics)
			l.flags(cmd)
			if err := cmd.ParseFlags(strings.Fields(row.args)); err != nil {
				t.Fatal(err)
			}
			rows, err := pages(&l, pageMax, func(limit int, after string) (some []int, next string, err error) {
				if limit < 1 || limit > pageMax {
					t.Fatalf("a page of %d", limit)
				}
				from := 0
				asked++
				if after != "" {
					if from, err = strconv.Atoi(after); err != nil {
						return nil, "", err
					}
				}
				for i := from; i < row.total && len(some) < limit; i++ {
					some = append(some, i)
				}
				if from+len(some) < row.total {
					next = strconv.Itoa(from + len(some))
				}
				return some, next, nil
			})
			if row.shown < 0 {
				if exitCode(err) != exitUsage || !strings.Contains(err.Error(), row.args) {
					t.Fatalf("%v", err)
				}
				return
			}
			if err := l.end(cmd, err); err != nil {
				t.Fatal(err)
			}
			if moved != asked {
				t.Errorf("%d pages came, and the time-out began anew %d times", asked, moved)
			}
			if len(rows) != row.shown || diagnostics.String() != row.says {
				t.Fatalf("%d rows, %q; want %d, %q", len(rows), diagnostics.String(), row.shown, row.says)
			}
		})
	}
}

// TestEachListPages: every command that takes --limit for rows takes --after and --all.
func TestEachListPages(t *testing.T) {
	n := 0
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Name() == "list" || c.Name() == "inbox" || c.Name() == "grants" || c.Name() == "alerts" {
			if c.Flags().Lookup("limit") != nil {
				n++
				if c.Flags().Lookup("after") == nil || c.Flags().Lookup("all") == nil {
					t.Errorf("%s has --limit, and no --after and --all", c.CommandPath())
				}
			}
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(newRoot())
	if n < 14 {
		t.Fatalf("%d lists were looked at", n)
	}
}
