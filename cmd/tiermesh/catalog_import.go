package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers/catalog"
)

// importBytesMax bounds what one request carries; the API takes 1 MiB.
const importBytesMax = 512 << 10

func newCatalogImport(g *global) *cobra.Command {
	i := catalogImport{g: g}
	var asJSON bool
	cmd := &cobra.Command{
		Use: "import NAME FILE|-", Short: "Import entries from CSV or JSON, with an error for each bad row", Args: exactArgs(2),
		Long: `Imports entries into this site's own catalog. CSV has a header of field names,
in any order, with code among them; JSON is an array of objects, or one object a
line. A column that the file does not have stays as it is in an entry that is
there already; an empty cell empties the field. Rows that change nothing write
nothing: an import of an export leaves everything as it is.

All rows are checked first. When one is bad, nothing is imported, and each bad row
is named with its field, its value and what is allowed; --skip-bad imports the
others. A large file is written in parts of up to --batch rows, each a version of
its own; after an interruption the same command with the same --key goes on.
Exit code 3 says that there were bad rows. The sum adds up: each row is added,
changed, unchanged, or bad.`,
		Example: `  tiermesh catalog import types event_types.csv --dry-run
  tiermesh catalog import components components.csv --skip-bad --key parts-2026
  tiermesh catalog export rules --format json | tiermesh catalog import rules - --format json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if asJSON {
				g.output = "json"
			}
			if i.batch < 1 || i.batch > api.EntriesMax {
				return usagef("--batch %d: want 1 to %d", i.batch, api.EntriesMax)
			}
			return i.run(cmd, args[0], args[1])
		},
	}
	f := cmd.Flags()
	f.StringVar(&i.flags.Format, "format", "", "csv, json or ndjson; by the file's name when left out, else by how it begins")
	i.flags.addEncoding(cmd)
	f.StringVar(&i.flags.Delimiter, "delimiter", "", `what separates the columns of CSV: , ; | or \t; by the header when left out`)
	f.BoolVar(&i.request.DryRun, "dry-run", false, "check only")
	f.BoolVar(&i.request.SkipBad, "skip-bad", false, "import the good rows although others are bad")
	f.BoolVar(&i.request.Resolve, "resolve", false, "settle conflicts in the fields that the file gives")
	f.BoolVar(&i.request.Confirm, "confirm", false, "write also what is so already, as confirmed now; see tiermesh track edit")
	f.StringVar(&i.request.Note, "note", "", "what the version is for; the file's name when left out")
	f.StringVar(&i.request.Key, "key", "", "idempotency key of the whole file; made up when left out")
	f.IntVar(&i.batch, "batch", 500, "rows a request, and a version")
	f.BoolVar(&asJSON, "json", false, "the same as -o json")
	return cmd
}

// catalogImport is an import on its way.
type catalogImport struct {
	g       *global
	flags   fileFlags
	batch   int
	request api.EntriesRequest

	c      *catalog.Catalog
	cmd    *cobra.Command
	client *api.Client
	moved  func()
	file   string
	open   func() (io.ReadCloser, error)
	rows   int
	done   importReport
}

// importReport is what an import prints as JSON.
type importReport struct {
	api.EntriesResult
	DryRun bool `json:"dry_run"`
	Rows   int  `json:"rows"`
}

func (i *catalogImport) run(cmd *cobra.Command, name, file string) error {
	var ok bool
	if i.c, ok = catalog.Find(name); !ok {
		return fmt.Errorf("%w: catalog %q: want one of %s", errInput, name, strings.Join(catalog.Names(), ", "))
	}
	if err := i.source(cmd, file); err != nil {
		return err
	}
	i.cmd, i.request.Catalog = cmd, name
	if i.request.Key == "" {
		i.request.Key = uuid.NewString()
	}
	err := i.g.transfer(cmd, func(ctx context.Context, c *api.Client, moved func()) error {
		i.client, i.moved = c, moved
		return i.both(ctx)
	})
	if err != nil {
		return err
	}
	return i.report()
}

// source says how to open the file, as often as it is read.
func (i *catalogImport) source(cmd *cobra.Command, file string) error {
	i.file = file
	if file != "-" {
		if i.request.Note == "" {
			i.request.Note = filepath.Base(file)
		}
		i.open = func() (io.ReadCloser, error) { return os.Open(file) }
		return nil
	}
	all, err := io.ReadAll(cmd.InOrStdin())
	i.open = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(all)), nil }
	return err
}

// both checks all rows, and then writes them.
func (i *catalogImport) both(ctx context.Context) error {
	want := i.request
	if i.c.RefersToItself() {
		err := i.each(func(r catalog.Row, bad *catalog.Problem) error {
			if bad == nil {
				i.request.With = append(i.request.With, r.Fields["code"])
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	i.request.DryRun = true
	if err := i.pass(ctx, "checked"); err != nil {
		return err
	}
	i.done.Rows, i.done.DryRun = i.rows, want.DryRun
	if want.DryRun || len(i.done.Problems) > 0 && !want.SkipBad {
		return nil
	}
	checked := i.done
	i.request.DryRun, i.done = false, importReport{Rows: i.rows}
	i.done.Catalog, i.done.Site, i.done.Version = checked.Catalog, checked.Site, checked.Version
	return i.pass(ctx, "imported")
}

// each reads the file once.
func (i *catalogImport) each(f func(catalog.Row, *catalog.Problem) error) error {
	in, err := i.open()
	if err != nil {
		return fmt.Errorf("%w: %w", errInput, err)
	}
	defer func() { _ = in.Close() }()
	rows, err := i.flags.open(in, i.file, nil)
	if err != nil {
		return err
	}
	err = i.c.ReadRows(rows, f)
	if errors.Is(err, catalog.ErrFile) {
		return fmt.Errorf("%w: %w", errInput, err)
	}
	return err
}

// pass sends all rows of the file, in parts.
func (i *catalogImport) pass(ctx context.Context, what string) error {
	seen, parts, read := map[string]int{}, 0, 0
	i.done.Problems = []catalog.Problem{}
	var rows []catalog.Row
	size := 0
	send := func() error {
		if len(rows) == 0 {
			return nil
		}
		parts++
		err := i.send(ctx, rows, parts)
		if read > i.batch && i.g.output != "json" {
			fmt.Fprintf(i.cmd.ErrOrStderr(), "%s %s\n", what, count(read, "row"))
		}
		rows, size = rows[:0], 0
		return err
	}
	err := i.each(func(r catalog.Row, bad *catalog.Problem) error {
		read++
		code := r.Fields["code"]
		if before, twice := seen[code]; bad == nil && twice && code != "" {
			bad = &catalog.Problem{Row: r.Row, Code: code, Field: "code", Value: code, Want: fmt.Sprintf("each code once: row %d has it", before)}
		}
		if bad != nil {
			i.done.Problems = append(i.done.Problems, *bad)
			return nil
		}
		seen[code] = r.Row
		rows = append(rows, r)
		for k, v := range r.Fields {
			size += len(k) + 2*len(v) + 8
		}
		if len(rows) < i.batch && size < importBytesMax {
			return nil
		}
		return send()
	})
	if err == nil {
		err = send()
	}
	i.rows = read
	return err
}

func (i *catalogImport) send(ctx context.Context, rows []catalog.Row, part int) error {
	r := i.request
	r.Entries = rows
	r.Key = fmt.Sprintf("%s:%d", i.request.Key, part)
	out, err := i.client.PutEntries(ctx, r)
	if err != nil {
		return fmt.Errorf("rows %d to %d, --key %s: %w", rows[0].Row, rows[len(rows)-1].Row, i.request.Key, err)
	}
	i.moved()
	d := &i.done
	d.Catalog, d.Site, d.Version, d.Written = out.Catalog, out.Site, out.Version, d.Written || out.Written
	d.Added, d.Changed, d.Unchanged, d.Repeated = d.Added+out.Added, d.Changed+out.Changed, d.Unchanged+out.Unchanged, d.Repeated || out.Repeated
	d.Problems = append(d.Problems, out.Problems...)
	return nil
}

func (i *catalogImport) report() error {
	d := i.done
	bad := map[int]bool{} // a row may have several problems
	for _, p := range d.Problems {
		bad[p.Row] = true
	}
	var failed error
	if len(bad) > 0 {
		failed = fmt.Errorf("%w: %d of %s bad", errInput, len(bad), count(d.Rows, "row"))
	}
	if i.g.output == "json" {
		return errors.Join(json.NewEncoder(i.cmd.OutOrStdout()).Encode(d), failed)
	}
	for _, p := range d.Problems {
		fmt.Fprintln(i.cmd.ErrOrStderr(), p)
	}
	verb := "imported"
	if !d.Written {
		verb = "nothing written"
	}
	at := "" // of a file without a good row the node was not asked
	if d.Site != "" {
		at = fmt.Sprintf("; catalog %s of site %s is at version %d", d.Catalog, d.Site, d.Version)
	}
	_, err := fmt.Fprintf(i.cmd.OutOrStdout(), "%s: %d added, %d changed, %d unchanged, %d bad%s\n", verb, d.Added, d.Changed, d.Unchanged, len(bad), at)
	return errors.Join(err, failed)
}
