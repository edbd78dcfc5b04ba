package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers/input"
	"github.com/tiermesh/tiermesh/tiers/instant"
)

func newReadingImport(g *global) *cobra.Command {
	i := readingImport{g: g}
	cmd := &cobra.Command{
		Use: "import FILE|-", Short: "Import readings from a file of CSV or JSON", Args: exactArgs(1),
		Long: `Imports readings from a file, or from standard input. CSV has the columns series,
time and value; an object of JSON is {"series": …, "time": …, "value": …}. A row
that breaks a rule is named with its line and left out; the others are imported,
and the command ends with exit code 3.

A value that is outside the range of its indicator, or one of its missing-value
marks (see "tiermesh indicator define --help"), is kept as missing: with its text
and the reason, never as a number. It raises no alert.

Times are RFC 3339, 2026-11-25 08:00, 20261125 and the like, or milliseconds since
1970; --time-format and --time-zone say otherwise. Files in another encoding than
UTF-8 need --encoding, unless they have a mark: gb18030 reads GBK, too.

The sum at the end adds up: each row is new, replaces another value of its time,
was there before, or is left out. A retry with the same file is safe.`,
		Example: `  tiermesh reading import readings.csv
  tiermesh reading import old.csv --encoding gb18030 --time-format '%m/%d/%Y %H:%M' --time-zone Asia/Shanghai
  printf 'series,time,value\nwater_level/1,2026-11-25T08:00:00+08:00,3.6\n' | tiermesh reading import -`,
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if i.batch < 1 || i.batch > api.ReadingsMax {
				return usagef("--batch %d: want 1 to %d", i.batch, api.ReadingsMax)
			}
			if i.times, err = i.flags.times(cmd); err != nil {
				return err
			}
			in, err := openInput(cmd, args[0])
			if err != nil {
				return err
			}
			defer func() { _ = in.Close() }()
			if i.key == "" {
				i.key = uuid.NewString()
			}
			rows, err := i.flags.open(in, args[0], i.good)
			if err == nil {
				err = readingColumns(rows)
			}
			if err != nil {
				return err
			}
			i.cmd = cmd
			return g.transfer(cmd, func(ctx context.Context, c *api.Client, moved func()) error { return i.run(ctx, c, rows, moved) })
		},
	}
	cmd.Flags().StringVar(&i.key, "key", "", "idempotency key of the whole file; made up when left out")
	cmd.Flags().IntVar(&i.batch, "batch", 1000, "readings a request")
	i.flags.add(cmd)
	return cmd
}

// readingFields are the fields of a row.
var readingFields = []string{"series", "time", "value"}

// readingColumns checks the header of CSV: the three fields, in any order.
func readingColumns(rows *input.Reader) error {
	have := slices.Sorted(slices.Values(rows.Header()))
	if rows.Format() == input.CSV && !slices.Equal(have, readingFields) {
		return fmt.Errorf("%w: header %.80q: want %s, or JSON lines", errInput, rows.Header(), strings.Join(readingFields, ","))
	}
	return nil
}

// readingImport sends rows in batches.
type readingImport struct {
	g     *global
	flags fileFlags
	key   string
	batch int
	times *instant.Parser

	cmd     *cobra.Command
	batches int
	sum     api.ReadingsResult
	bad     int
	rows    []api.ReadingRow
	lines   []int // of rows
}

// good reports whether a row can be a reading.
func (i *readingImport) good(row input.Row) bool {
	_, err := i.reading(row)
	return err == nil
}

// reading makes a reading of a row.
func (i *readingImport) reading(row input.Row) (out api.ReadingRow, err error) {
	if row.Err != nil {
		return out, row.Err
	}
	for _, f := range row.Fields {
		switch f.Name {
		case "series":
			out.Series = strings.TrimSpace(f.Text)
		case "time":
			if out.AtMS, err = i.times.Milliseconds(f.Text); err != nil {
				return out, err
			}
		case "value":
			out.Value = api.ReadingValue(strings.TrimSpace(f.Text))
		default:
			return out, fmt.Errorf("unknown field %.40q: want %s", f.Name, strings.Join(readingFields, ", "))
		}
	}
	for _, name := range readingFields[:2] {
		if _, ok := row.Field(name); !ok {
			return out, fmt.Errorf("%s is missing", name)
		}
	}
	return out, nil
}

func (i *readingImport) run(ctx context.Context, c *api.Client, rows *input.Reader, moved func()) error {
	failed := i.all(ctx, c, rows, moved)
	read := i.sum.Accepted + i.bad
	if failed == nil && read == 0 {
		return fmt.Errorf("%w: no rows", errInput)
	}
	fmt.Fprintf(i.cmd.OutOrStdout(), "%s: %d new, %d changed, %d there before, %d left out\n",
		count(read, "row"), i.sum.New, i.sum.Changed, i.sum.Known, i.bad)
	if i.sum.Missing > 0 {
		fmt.Fprintf(i.cmd.OutOrStdout(), "%d of the new and changed without a value: kept as missing\n", i.sum.Missing)
	}
	if failed == nil && i.bad > 0 {
		failed = fmt.Errorf("%w: %s left out", errInput, count(i.bad, "row"))
	}
	return failed
}

// all sends all rows.
func (i *readingImport) all(ctx context.Context, c *api.Client, rows *input.Reader, moved func()) error {
	for {
		row, err := rows.Next()
		if errors.Is(err, io.EOF) {
			return i.send(ctx, c)
		}
		if err != nil { // what came before it is whole
			return errors.Join(fmt.Errorf("%w: %w", errInput, err), i.send(ctx, c))
		}
		r, err := i.reading(row)
		if err != nil {
			i.leaveOut(row.Line, err.Error())
			continue
		}
		i.rows, i.lines = append(i.rows, r), append(i.lines, row.Line)
		if len(i.rows) < i.batch {
			continue
		}
		if err := i.send(ctx, c); err != nil {
			return err
		}
		moved()
	}
}

func (i *readingImport) leaveOut(line int, text string) {
	i.bad++
	fmt.Fprintf(i.cmd.ErrOrStderr(), "line %d left out: %s\n", line, text)
}

func (i *readingImport) send(ctx context.Context, c *api.Client) error {
	if len(i.rows) == 0 {
		return nil
	}
	i.batches++
	done, err := c.ImportReadings(ctx, api.ReadingsRequest{Key: fmt.Sprintf("%s:%d", i.key, i.batches), Readings: i.rows, Compare: true})
	if err != nil {
		return fmt.Errorf("lines %d to %d, --key %s: %w", i.lines[0], i.lines[len(i.lines)-1], i.key, err)
	}
	s := &i.sum
	s.Accepted, s.Missing = s.Accepted+done.Accepted, s.Missing+done.Missing
	s.New, s.Changed, s.Known = s.New+done.New, s.Changed+done.Changed, s.Known+done.Known
	for _, b := range done.Bad {
		if b.Row >= 0 && b.Row < len(i.lines) {
			i.leaveOut(i.lines[b.Row], b.Message)
		}
	}
	i.rows, i.lines = i.rows[:0], i.lines[:0]
	return nil
}
