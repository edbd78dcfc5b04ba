package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/api"
	series "github.com/tiermesh/tiermesh/crdt/reading"
	"github.com/tiermesh/tiermesh/tiers"
)

func newReading(g *global) *cobra.Command {
	cmd := &cobra.Command{
		Use: "reading", Short: "Import and show readings of series",
		Long: `A reading is a value of a series at a time. A series is CODE or CODE/INSTANCE,
where CODE is that of an indicator: water_level/gaochao-1.

Readings may come late and in any order, and twice: of several for one time the
one that was written last counts, and rollups follow. They go up to the sites
above behind everything else; a crossing of a threshold becomes an event at once.`,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newReadingImport(g), newReadingShow(g))
	return cmd
}

func newReadingImport(g *global) *cobra.Command {
	var key string
	var batch int
	cmd := &cobra.Command{
		Use: "import FILE|-", Short: "Import readings from a file of CSV or JSON lines", Args: exactArgs(1),
		Long: `Imports readings from a file, or from standard input. CSV has the header
series,time,value; a JSON line is {"series": …, "time": …, "value": …}. A time is
RFC 3339, or milliseconds since 1970. A row that breaks a rule is named with its
line and left out; the others are imported, and the command ends with exit code 3.

A value that is outside the range of its indicator, or one of its missing-value
marks (see "tiermesh indicator define --help"), is kept as missing: with its text
and the reason, never as a number. It raises no alert.

The sum at the end adds up: each row is new, replaces another value of its time,
was there before, or is left out. A retry with the same file is safe.`,
		Example: `  tiermesh reading import readings.csv
  printf 'series,time,value\nwater_level/1,2026-11-25T08:00:00+08:00,3.6\n' | tiermesh reading import -`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if batch < 1 || batch > api.ReadingsMax {
				return usagef("--batch %d: want 1 to %d", batch, api.ReadingsMax)
			}
			in, err := input(cmd, args[0])
			if err != nil {
				return err
			}
			defer func() { _ = in.Close() }()
			if key == "" {
				key = uuid.NewString()
			}
			i := importer{cmd: cmd, key: key}
			return g.transfer(cmd, func(ctx context.Context, c *api.Client, moved func()) error {
				return i.run(ctx, c, in, batch, moved)
			})
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "idempotency key of the whole file; made up when left out")
	cmd.Flags().IntVar(&batch, "batch", 1000, "readings a request")
	return cmd
}

// importer sends rows in batches.
type importer struct {
	cmd     *cobra.Command
	key     string
	batches int
	sum     api.ReadingsResult
	bad     int
	rows    []api.ReadingRow
	lines   []int // of rows
}

func (i *importer) run(ctx context.Context, c *api.Client, in io.Reader, batch int, moved func()) error {
	failed := readRows(in, func(line int, r api.ReadingRow, err error) error {
		if err != nil {
			i.leaveOut(line, err.Error())
			return nil
		}
		i.rows, i.lines = append(i.rows, r), append(i.lines, line)
		if len(i.rows) < batch {
			return nil
		}
		defer moved()
		return i.send(ctx, c)
	})
	if failed == nil {
		failed = i.send(ctx, c)
	}
	fmt.Fprintf(i.cmd.OutOrStdout(), "%s: %d new, %d changed, %d there before, %d left out\n",
		count(i.sum.Accepted+i.bad, "row"), i.sum.New, i.sum.Changed, i.sum.Known, i.bad)
	if i.sum.Missing > 0 {
		fmt.Fprintf(i.cmd.OutOrStdout(), "%d of the new and changed without a value: kept as missing\n", i.sum.Missing)
	}
	if failed == nil && i.bad > 0 {
		failed = fmt.Errorf("%w: %s left out", errInput, count(i.bad, "row"))
	}
	return failed
}

func (i *importer) leaveOut(line int, text string) {
	i.bad++
	fmt.Fprintf(i.cmd.ErrOrStderr(), "line %d left out: %s\n", line, text)
}

func (i *importer) send(ctx context.Context, c *api.Client) error {
	if len(i.rows) == 0 {
		return nil
	}
	i.batches++
	done, err := c.ImportReadings(ctx, api.ReadingsRequest{Key: fmt.Sprintf("%s:%d", i.key, i.batches), Readings: i.rows, Compare: true})
	if err != nil {
		return fmt.Errorf("lines %d to %d, --key %s: %w", i.lines[0], i.lines[len(i.lines)-1], i.key, err)
	}
	i.sum.Accepted += done.Accepted
	i.sum.New, i.sum.Changed, i.sum.Known, i.sum.Missing = i.sum.New+done.New, i.sum.Changed+done.Changed, i.sum.Known+done.Known, i.sum.Missing+done.Missing
	for _, b := range done.Bad {
		if b.Row >= 0 && b.Row < len(i.lines) {
			i.leaveOut(i.lines[b.Row], b.Message)
		}
	}
	i.rows, i.lines = i.rows[:0], i.lines[:0]
	return nil
}

// readRows calls f with each row and its line, or with what is wrong with it.
func readRows(in io.Reader, f func(line int, r api.ReadingRow, err error) error) error {
	r := bufio.NewReader(in)
	for {
		b, err := r.Peek(1)
		switch {
		case err != nil:
			return fmt.Errorf("%w: no rows", errInput)
		case bytes.ContainsAny(b, " \t\r\n"):
			_, _ = r.Discard(1)
		case b[0] == '{':
			return readJSON(r, f)
		default:
			return readCSV(r, f)
		}
	}
}

func readJSON(in io.Reader, f func(line int, r api.ReadingRow, err error) error) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 64<<10)
	n := 1
	for ; lines.Scan(); n++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var row struct {
			Series string            `json:"series"`
			Time   json.RawMessage   `json:"time"`
			Value  *api.ReadingValue `json:"value"`
		}
		dec := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		dec.DisallowUnknownFields()
		err := dec.Decode(&row)
		out := api.ReadingRow{Series: row.Series}
		if row.Value != nil { // null is the empty mark
			out.Value = *row.Value
		}
		if err == nil {
			out.AtMS, err = parseTime(strings.Trim(string(row.Time), `"`))
		}
		if err := f(n, out, err); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%w: line %d: %w", errInput, n, err)
	}
	return nil
}

func readCSV(in io.Reader, f func(line int, r api.ReadingRow, err error) error) error {
	rows := csv.NewReader(in)
	rows.FieldsPerRecord = -1
	want := []string{"series", "time", "value"}
	header, err := rows.Read()
	if err != nil || !slices.Equal(header, want) {
		return fmt.Errorf("%w: header %.80q: want %s, or JSON lines", errInput, header, strings.Join(want, ","))
	}
	for {
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		var bad *csv.ParseError
		if err != nil && !errors.As(err, &bad) {
			return fmt.Errorf("%w: %w", errInput, err)
		}
		var line int
		var out api.ReadingRow
		if bad != nil {
			line, err = bad.StartLine, bad.Err
		} else {
			line, _ = rows.FieldPos(0)
			out, err = csvRow(row)
		}
		if err := f(line, out, err); err != nil {
			return err
		}
	}
}

func csvRow(row []string) (out api.ReadingRow, err error) {
	if len(row) != 3 {
		return out, fmt.Errorf("%d columns: want series,time,value", len(row))
	}
	out.Series, out.Value = row[0], api.ReadingValue(strings.TrimSpace(row[2]))
	out.AtMS, err = parseTime(row[1])
	return out, err
}

// parseTime reads RFC 3339, a date at UTC+8, or Unix milliseconds.
func parseTime(s string) (int64, error) {
	if ms, err := strconv.ParseInt(s, 10, 64); err == nil {
		return ms, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t.UnixMilli(), nil
	}
	if t, err := time.ParseInLocation(time.DateOnly, s, cityZone); err == nil {
		return t.UnixMilli(), nil
	}
	return 0, fmt.Errorf("time %.40q: want one such as 2026-11-25T08:00:00+08:00, 2026-11-25, or milliseconds since 1970", s)
}

func newReadingShow(g *global) *cobra.Command {
	var from, to, site string
	q := api.ReadingsQuery{}
	cmd := &cobra.Command{
		Use: "show SERIES", Short: "Show readings of a series, or their rollups", Args: exactArgs(1),
		Long: `Shows the readings of a series, or count, mean, min, max and last by the minute,
hour or day; days begin at midnight, UTC+8. A reading without a value is shown with
the reason and what the source wrote; rollups count it as missing. Readings older than the indicator's
limits are dropped, and their rollups stay: a line at the end says so.`,
		Example: "  tiermesh reading show water_level/1 --by raw --from 2026-11-25 --limit 20\n  tiermesh reading show water_level/1 --by day --site 500101001",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			q.Series, q.Site, q.FromMS, q.ToMS = args[0], tiers.SiteID(site), 0, series.TimeMaxMS
			for _, x := range []struct {
				flag, text string
				into       *int64
			}{{"from", from, &q.FromMS}, {"to", to, &q.ToMS}} {
				if x.text != "" {
					if *x.into, err = parseTime(x.text); err != nil {
						return usagef("--%s: %v", x.flag, err)
					}
				}
			}
			return g.client(cmd, func(ctx context.Context, c *api.Client) error {
				page, err := c.Readings(ctx, q)
				if err != nil {
					return err
				}
				return g.printReadings(cmd.OutOrStdout(), page)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&from, "from", "", "first time to show; the beginning when left out")
	f.StringVar(&to, "to", "", "time before which to end; the end when left out")
	f.StringVar(&q.By, "by", api.ByHour, "raw, minute, hour or day")
	f.StringVar(&site, "site", "", "whose series; this node's site when left out")
	f.IntVar(&q.Limit, "limit", 1000, "how many lines to show at most, up to 10000")
	return cmd
}

// cityZone is the zone in which days begin.
var cityZone = time.FixedZone("UTC+8", 8*3600)

func clockTime(ms int64) string {
	return time.UnixMilli(ms).In(cityZone).Format("2006-01-02 15:04:05.000")
}

// rawRows are points and gaps in the order of time.
func rawRows(p api.ReadingsPage) (rows [][]string) {
	gaps := p.Missing
	gap := func() {
		rows = append(rows, []string{clockTime(gaps[0].AtMS), "-", gapText(gaps[0])})
		gaps = gaps[1:]
	}
	for _, x := range p.Points {
		for len(gaps) > 0 && gaps[0].AtMS < x.AtMS {
			gap()
		}
		rows = append(rows, []string{clockTime(x.AtMS), fmt.Sprint(x.Value), "-"})
	}
	for len(gaps) > 0 {
		gap()
	}
	return rows
}

// gapText says why there is no value, and what the source wrote.
func gapText(g series.Gap) string { return fmt.Sprintf("%s (%q)", g.Reason, g.Text) }

func (g *global) printReadings(w io.Writer, p api.ReadingsPage) error {
	if g.output == "json" {
		return json.NewEncoder(w).Encode(p)
	}
	header, rows := []string{"TIME", "VALUE", "MISSING"}, rawRows(p)
	if p.By != api.ByRaw {
		header = []string{"FROM", "COUNT", "MEAN", "MIN", "MAX", "LAST", "MISSING"}
	}
	for _, r := range p.Rollups {
		row := []string{clockTime(r.StartMS), "0", "-", "-", "-", "-", fmt.Sprint(r.Missing)}
		if r.Count > 0 {
			row = append(row[:1], fmt.Sprint(r.Count), fmt.Sprintf("%.6g", r.Mean()), fmt.Sprint(r.Min), fmt.Sprint(r.Max), fmt.Sprint(r.Last), row[6])
		}
		rows = append(rows, row)
	}
	if err := table(w, header, rows); err != nil {
		return err
	}
	if p.ReadingsFromMS > 0 {
		fmt.Fprintf(w, "readings before %s are dropped, %d came too late; rollups stay\n", clockTime(p.ReadingsFromMS), p.Late)
	}
	if p.NextMS > 0 {
		fmt.Fprintf(w, "more: --from %d\n", p.NextMS)
	}
	return nil
}
