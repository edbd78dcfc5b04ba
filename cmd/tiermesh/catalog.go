package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/catalog"
)

func newCatalog(g *global) *cobra.Command {
	cmd := &cobra.Command{
		Use: "catalog", Short: "List, show, import, export and compare catalogs (编目)",
		Long: `A catalog holds what a city agrees on: ` + strings.Join(catalog.Names(), ", ") + `.

A site publishes in its own catalog, for itself and all below it. Of several
entries with one code, that of the nearest site from here up holds. Each write
that changes anything makes a new version of the catalog at the site; what a
version held can be shown again, and tasks name the versions that made them.
Entries are retired, never deleted. All of it works with every link cut.

Rules, plans and calendars can also be published one by one: tiermesh dispatch
publish, plan publish, calendar publish make versions of the same catalogs.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newCatalogList(g), newCatalogShow(g), newCatalogImport(g), newCatalogExport(g), newCatalogDiff(g), newCatalogVersions(g), newCatalogRetire(g))
	return cmd
}

func newCatalogList(g *global) *cobra.Command {
	return &cobra.Command{
		Use: "list", Short: "List the catalogs: entries, versions and where they come from", Args: exactArgs(0),
		Example: "  tiermesh catalog list\n  tiermesh catalog list -o wide",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				all, err := c.Catalogs(ctx)
				if err != nil {
					return err
				}
				if g.output == "json" {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(all)
				}
				header := []string{"CATALOG", "ENTRIES", "SOURCE", "VERSION", "OWN ENTRIES", "MADE"}
				if g.output == "wide" {
					header = append(header, "术语")
				}
				var rows [][]string
				for _, x := range all {
					if len(x.Sources) == 0 {
						x.Sources = []api.CatalogSource{{}}
					}
					for i, s := range x.Sources {
						row := []string{x.Name, strconv.Itoa(x.Entries), orDash(string(s.Site)), strconv.FormatUint(s.Version, 10), strconv.Itoa(s.Entries), "-"}
						if s.AtMS > 0 {
							row[5] = localTime(s.AtMS)
						}
						if i > 0 {
							row[0], row[1] = "", ""
						}
						if g.output == "wide" {
							row = append(row, x.Chinese)
						}
						rows = append(rows, row)
					}
				}
				return table(cmd.OutOrStdout(), header, rows)
			})
		},
	}
}

// entryFlags are what selects entries.
type entryFlags struct {
	site    string
	version uint64
}

func (f *entryFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.site, "site", "", "only the own entries of this site; what holds here when left out")
	cmd.Flags().Uint64Var(&f.version, "version", 0, "as they were in this version, of --site or the nearest site that has any")
}

// each calls f with every entry of a catalog.
func (f *entryFlags) each(ctx context.Context, c *api.Client, name string, moved func(), each func(catalog.Entry) error) error {
	q := api.EntriesQuery{Catalog: name, Site: tiers.SiteID(f.site), Version: f.version, Limit: api.EntriesMax}
	for {
		page, err := c.Entries(ctx, q)
		if err != nil {
			return err
		}
		moved()
		for _, e := range page.Entries {
			if err := each(e); err != nil {
				return err
			}
		}
		if q.After = page.Next; q.After == "" {
			return nil
		}
	}
}

func newCatalogShow(g *global) *cobra.Command {
	var f entryFlags
	cmd := &cobra.Command{
		Use: "show NAME [CODE]", Short: "Show a catalog's entries, or one of them", Args: rangeArgs(1, 2),
		Long: `Shows the entries that hold at this site, or those of one site, or of one version.
With a code it shows all fields of that entry, and its conflicts: values that
several wrote without seeing each other, until somebody imports the entry with
--resolve. -o wide shows every field.`,
		Example: "  tiermesh catalog show types\n  tiermesh catalog show rules --version 3 -o wide\n  tiermesh catalog show organs 0101",
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.transfer(cmd, func(ctx context.Context, c *api.Client, moved func()) error {
				var all []catalog.Entry
				err := f.each(ctx, c, args[0], moved, func(e catalog.Entry) error {
					if len(args) == 1 || e.Code == args[1] {
						all = append(all, e)
					}
					return nil
				})
				switch {
				case err != nil:
					return err
				case len(args) == 2 && len(all) == 0:
					return fmt.Errorf("%w: catalog %s has no entry %s", api.ErrNotFound, args[0], args[1])
				case g.output == "json":
					return printLines(cmd.OutOrStdout(), all)
				case len(args) == 2:
					return printEntry(cmd.OutOrStdout(), all[0])
				}
				return printEntries(cmd.OutOrStdout(), args[0], all, g.output == "wide")
			})
		},
	}
	f.add(cmd)
	return cmd
}

func printLines[T any](w io.Writer, all []T) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	for _, x := range all {
		if err := enc.Encode(x); err != nil {
			return err
		}
	}
	return nil
}

func printEntry(w io.Writer, e catalog.Entry) error {
	rows := [][]string{{"site", string(e.Site)}}
	for _, k := range slices.Sorted(maps.Keys(e.Fields)) {
		rows = append(rows, []string{k, e.Fields[k]})
	}
	for _, x := range e.Conflicts {
		for i, v := range x.Values {
			mark := "conflict"
			if i == 0 {
				mark = "shown"
			}
			rows = append(rows, []string{x.Field, fmt.Sprintf("%v  (%s, by %s at %s)", v.Value, mark, v.Site, localTime(v.AtMS))})
		}
	}
	return table(w, []string{"FIELD", "VALUE"}, rows)
}

// narrowFields is how many fields are shown without -o wide.
const narrowFields = 5

func printEntries(w io.Writer, name string, all []catalog.Entry, wide bool) error {
	c, ok := catalog.Find(name)
	if !ok {
		return fmt.Errorf("%w: catalog %q: want one of %s", errInput, name, strings.Join(catalog.Names(), ", "))
	}
	names := c.Columns()
	names = names[:len(names)-1] // retired comes last
	if !wide && len(names) > narrowFields {
		names = names[:narrowFields]
	}
	var header []string
	for _, n := range names {
		header = append(header, strings.ToUpper(n))
	}
	var rows [][]string
	for _, e := range all {
		var row []string
		for _, n := range names {
			row = append(row, orDash(strings.Join(strings.Fields(e.Fields[n]), " ")))
		}
		state := "-"
		if e.Retired() {
			state = "retired"
		}
		if len(e.Conflicts) > 0 {
			state = fmt.Sprintf("%d in conflict", len(e.Conflicts))
		}
		rows = append(rows, append(row, string(e.Site), state))
	}
	return table(w, append(header, "SITE", "STATE"), rows)
}

func newCatalogExport(g *global) *cobra.Command {
	var f entryFlags
	var format, file string
	cmd := &cobra.Command{
		Use: "export NAME", Short: "Write a catalog as CSV or JSON; an import of it changes nothing", Args: exactArgs(1),
		Example: "  tiermesh catalog export components --format csv > components.csv\n  tiermesh catalog export rules --format json --file rules.json --version 4",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			c, ok := catalog.Find(args[0])
			if !ok {
				return fmt.Errorf("%w: catalog %q: want one of %s", errInput, args[0], strings.Join(catalog.Names(), ", "))
			}
			out := raw(cmd.OutOrStdout())
			if file != "" && file != "-" {
				created, err := os.Create(file)
				if err != nil {
					return fmt.Errorf("%w: %w", errInput, err)
				}
				defer func() { err = errors.Join(err, created.Close()) }()
				out = created
			}
			buffered := bufio.NewWriter(out)
			w, err := c.NewRowWriter(buffered, format)
			if err != nil {
				return usagef("--format %q: want csv or json", format)
			}
			err = g.transfer(cmd, func(ctx context.Context, client *api.Client, moved func()) error {
				return f.each(ctx, client, args[0], moved, func(e catalog.Entry) error { return w.Write(e.Fields) })
			})
			if err != nil {
				return err
			}
			return errors.Join(w.Close(), buffered.Flush())
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&format, "format", catalog.CSV, "csv or json")
	cmd.Flags().StringVar(&file, "file", "", "file to write; standard output when left out")
	return cmd
}

func newCatalogVersions(g *global) *cobra.Command {
	var site string
	var limit int
	cmd := &cobra.Command{
		Use: "versions NAME", Short: "List the versions of a catalog, the latest first", Args: exactArgs(1),
		Example: "  tiermesh catalog versions rules\n  tiermesh catalog versions rules --site 500000",
		RunE: func(cmd *cobra.Command, args []string) error {
			if limit < 1 {
				return usagef("--limit %d: want 1 or more", limit)
			}
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				v, err := c.CatalogVersions(ctx, api.EntriesQuery{Catalog: args[0], Site: tiers.SiteID(site), Limit: limit})
				if err != nil {
					return err
				}
				if g.output == "json" {
					return json.NewEncoder(cmd.OutOrStdout()).Encode(v)
				}
				var rows [][]string
				for _, x := range v.Versions {
					row := []string{strconv.FormatUint(x.Number, 10), string(x.Site), localTime(x.At.Millis()), strconv.Itoa(x.Count), strconv.Itoa(x.Changed), x.Sum[:min(len(x.Sum), 12)], orDash(x.Note)}
					if g.output == "wide" {
						row[5] = x.Sum
					}
					rows = append(rows, row)
				}
				return table(cmd.OutOrStdout(), []string{"VERSION", "SITE", "MADE", "ENTRIES", "CHANGED", "SUM", "NOTE"}, rows)
			})
		},
	}
	cmd.Flags().StringVar(&site, "site", "", "whose versions; the nearest site's from here up when left out")
	cmd.Flags().IntVar(&limit, "limit", 50, "how many to show at most")
	return cmd
}

func newCatalogDiff(g *global) *cobra.Command {
	var site string
	cmd := &cobra.Command{
		Use: "diff NAME FROM [TO]", Short: "Say what differs between two versions; TO is the last one when left out", Args: rangeArgs(2, 3),
		Example: "  tiermesh catalog diff rules 3 4\n  tiermesh catalog diff types 0   # everything",
		RunE: func(cmd *cobra.Command, args []string) error {
			q := api.DiffQuery{Catalog: args[0], Site: tiers.SiteID(site), Limit: api.EntriesMax}
			for i, into := range []*uint64{&q.From, &q.To} {
				if i+1 < len(args) {
					n, err := strconv.ParseUint(args[i+1], 10, 63)
					if err != nil {
						return usagef("version %q: want a whole number", args[i+1])
					}
					*into = n
				}
			}
			return g.transfer(cmd, func(ctx context.Context, c *api.Client, moved func()) error {
				var all []catalog.Change
				for {
					d, err := c.CatalogDiff(ctx, q)
					if err != nil {
						return err
					}
					moved()
					all = append(all, d.Changes...)
					if q.After = d.Next; q.After == "" {
						return g.printChanges(cmd.OutOrStdout(), d, all)
					}
				}
			})
		},
	}
	cmd.Flags().StringVar(&site, "site", "", "whose versions; the nearest site's from here up when left out")
	return cmd
}

func (g *global) printChanges(w io.Writer, d api.CatalogDiff, all []catalog.Change) error {
	if g.output == "json" {
		d.Changes, d.Next = all, ""
		return json.NewEncoder(w).Encode(d)
	}
	var rows [][]string
	for _, x := range all {
		for i, k := range slices.Sorted(maps.Keys(x.Fields)) {
			row := []string{x.Code, x.What, k, orDash(x.Fields[k].From), orDash(x.Fields[k].To)}
			if i > 0 {
				row[0], row[1] = "", ""
			}
			rows = append(rows, row)
		}
	}
	if err := table(w, []string{"CODE", "WHAT", "FIELD", "FROM", "TO"}, rows); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%s of catalog %s of site %s differ between versions %d and %d\n", count(len(all), "entry"), d.Catalog, d.Site, d.From, d.To)
	return err
}

func newCatalogRetire(g *global) *cobra.Command {
	w := &write{g: g}
	cmd := &cobra.Command{
		Use: "retire NAME CODE", Short: "Retire an entry: it is shown, and used no more", Args: exactArgs(2),
		Long: `Retires an entry at this site and those below it. One that was published above
is retired from here down. An import of the entry with retired empty brings it
back.`,
		Example: "  tiermesh catalog retire rules night-fire",
		RunE: func(cmd *cobra.Command, args []string) error {
			return submit(w, cmd, func(ctx context.Context, c *api.Client, key string) (api.EntriesResult, error) {
				return c.RetireEntry(ctx, api.RetireRequest{Key: key, Catalog: args[0], Code: args[1]})
			}, func(r api.EntriesResult) string {
				return fmt.Sprintf("%s %s is retired: version %d of site %s", args[0], args[1], r.Version, r.Site)
			})
		},
	}
	w.flag(cmd)
	return cmd
}

// rangeArgs takes from low to high arguments.
func rangeArgs(low, high int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < low || len(args) > high {
			return usagef("%s takes %d to %d arguments, got %d; see %s --help", cmd.CommandPath(), low, high, len(args), cmd.CommandPath())
		}
		return nil
	}
}
