package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers/event"
	"github.com/tiermesh/tiermesh/tiers/input"
)

// Bounds of a request of an import; a batch's own are larger.
const (
	importRows  = 500
	importBytes = 3 << 20
)

func newEventImport(g *global) *cobra.Command {
	i := &eventImport{g: g}
	var flags mappingFlags
	cmd := &cobra.Command{
		Use: "import FILE|-", Short: "Report many events from a file of CSV, JSON or JSON lines", Args: exactArgs(1),
		Long: `Reports the events of a file, or of standard input. The fields of a report are
  ` + strings.Join(reportFields(), ", ") + `.
Columns of CSV, or fields of JSON objects, with other names are mapped: --map says
which column is which field, --set gives what a file does not have, --map-values
says what stands for a value, such as the code for a type's name. A mapping is
saved with --save-profile and used again with --profile; profiles of ` + strings.Join(profileNames(), ", ") + `
are there. What no field is for is kept with the event, in extra.

Files in another encoding than UTF-8 need --encoding, unless they have a mark:
--encoding gb18030 reads GBK and GB2312, too. A time is RFC 3339, or local as in
2026-11-25 08:00, 2026/11/25 8:00, 2026年11月25日 8时 or 20261125, at --time-zone,
else the profile's zone, else $TIERMESH_TZ; a date that has its day or month first
needs --time-format (strptime's letters). An hour that a zone has twice, at the end
of summer time, is no time.

Each row ends as an event, as one that was there before, in quarantine (tiermesh
event quarantine list), with its bytes and the reason, or is left out and named; the
last line adds up. A row that cannot be read costs no other. The command ends with
exit code 3 when rows are in quarantine or left out.

The same file may be imported again, with another mapping or encoding, too: a row
is its line in a file of these bytes, whatever its name, or from standard input, of
which a copy is kept until it was sent. Rows that became events are there before, and
rows in quarantine are tried again. With a --key of your own a file that grew at its
end, or whose rows have source keys, may be imported again; there a row is the same
only if the mapping makes the same report of it. --dry-run asks the node what would become of each row.`,
		Example: `  tiermesh event import events.csv --dry-run
  tiermesh event import events.csv --encoding gb18030 --set channel=12345
  tiermesh event import 311.csv --profile nyc311 --map-values type=types.csv
  tiermesh event import calls.csv --map 'source_key=No,type=Kind,title=Subject,reported_at=Opened' \
    --time-format '%d.%m.%Y %H:%M' --time-zone Europe/Berlin --save-profile calls.json
  printf 'type,title\n01001,井盖\n' | tiermesh event import - --key today`,
		RunE: func(cmd *cobra.Command, args []string) error {
			i.cmd = cmd
			if err := flags.read(cmd, &i.m); err != nil {
				return err
			}
			if flags.save != "" {
				if err := saveProfile(flags.save, &i.m); err != nil {
					return err
				}
			}
			return i.run(args[0])
		},
	}
	flags.add(cmd, &i.m)
	cmd.Flags().StringVar(&i.key, "key", "", "idempotency key of the whole; follows from the file when left out")
	cmd.Flags().BoolVar(&i.dry, "dry-run", false, "only say what would become of each row; nothing is written")
	return cmd
}

// eventImport sends the rows of a file in batches.
type eventImport struct {
	g   *global
	cmd *cobra.Command
	m   mapping
	key string
	dry bool

	rows   int
	counts map[string]int
	types  map[string]bool // of good rows
	body   bytes.Buffer
	lines  []int    // of the rows in body
	places []string // of them in the file, if the key follows from its bytes
	first  int      // how many rows were sent before them
	placed bool
	last   int // the line of the last row, and how many began on it
	onLast int
}

func (i *eventImport) run(path string) error {
	i.counts, i.types = map[string]int{}, map[string]bool{}
	in, done, err := i.open(path)
	if err != nil {
		return err
	}
	defer done()
	r, err := i.m.open(in, path, i.good)
	if err != nil {
		return err
	}
	if err := i.m.begin(r.Header()); err != nil {
		return err
	}
	err = i.g.transfer(i.cmd, func(ctx context.Context, c *api.Client, moved func()) error {
		send := func() error { return i.send(ctx, c, moved) }
		if i.dry {
			if _, err := c.Node(ctx); errors.Is(err, api.ErrUnreachable) {
				fmt.Fprintf(i.cmd.ErrOrStderr(), "%v\nthe rows are only checked by themselves: types, places and what is there before are not looked up\n", err)
				send = i.check
			}
		}
		return i.all(r, send)
	})
	return i.end(err)
}

// all sends the rows of the file.
func (i *eventImport) all(r *input.Reader, send func() error) error {
	for {
		row, err := r.Next()
		if errors.Is(err, io.EOF) {
			return send()
		}
		if err != nil {
			return errors.Join(send(), fmt.Errorf("%w: %w", errInput, err))
		}
		i.rows++
		raw, err := i.item(row)
		if err != nil {
			return err
		}
		if len(i.lines) == importRows || i.body.Len()+len(raw) > importBytes {
			if err := send(); err != nil {
				return err
			}
		}
		i.body.Write(raw)
		i.body.WriteByte('\n')
		i.lines = append(i.lines, row.Line)
		if place := i.place(row); i.placed {
			i.places = append(i.places, place)
		}
	}
}

// place is the line that a row begins on, and which it is of those on it: how the rest
// of the file is read does not change it.
func (i *eventImport) place(row input.Row) string {
	if i.onLast++; row.Line != i.last {
		i.last, i.onLast = row.Line, 0
		return strconv.Itoa(row.Line)
	}
	return fmt.Sprintf("%d.%d", row.Line, i.onLast)
}

// item is a row as a batch has it: a report, or what came and why it is none.
func (i *eventImport) item(row input.Row) ([]byte, error) {
	if row.Err != nil {
		reason := row.Err.Error()
		if row.Size > len(row.Raw) {
			reason += fmt.Sprintf("; of %s the first %d are kept", count(row.Size, "byte"), len(row.Raw))
		}
		return unreadable(row.Raw, "row", reason)
	}
	raw, bad := i.m.report(row)
	if bad != nil {
		if raw == nil {
			raw = row.Raw
		}
		return unreadable(raw, bad.field, bad.err.Error())
	}
	if it := event.ParseItem(raw); it.Err == nil {
		i.types[it.Report.Type] = true
	}
	return raw, nil
}

// unreadable is the item of a row that is no report.
func unreadable(raw []byte, field, reason string) ([]byte, error) {
	if len(raw) == 0 {
		raw = []byte(" ")
	}
	return encodeJSON(map[string]any{"quarantine": map[string]any{"bytes": raw, "field": field, "reason": strings.ToValidUTF8(reason, "?")}})
}

// columnsTold is how many columns tell a row from a line of text.
const columnsTold = 4

// good reports whether a line would be a report; one of few columns, only if its type
// is one that other rows have.
func (i *eventImport) good(row input.Row) bool {
	probe := i.m // its counts are of rows alone
	probe.unmapped, probe.unknown, probe.formats = map[string]map[string]int{}, map[string]bool{}, map[string]int{}
	raw, bad := probe.report(row)
	if bad != nil {
		return false
	}
	it := checkItem(raw, time.Now())
	return it.Err == nil && (i.types[it.Report.Type] || len(row.Fields) >= columnsTold)
}

// checkItem looks at a report by itself.
func checkItem(raw []byte, now time.Time) event.Item {
	it := event.ParseItem(raw)
	if it.Err == nil {
		if it.Report.ReportedAtMS == 0 {
			it.Report.ReportedAtMS = now.UnixMilli()
		}
		it.Err = it.Report.Validate(now)
	}
	return it
}

// fileKey begins the keys that follow from a file's bytes; so many of the sum follow.
const (
	fileKey  = "import-"
	keyBytes = 16
)

// open opens the file; its key follows from its bytes.
func (i *eventImport) open(path string) (io.Reader, func(), error) {
	own := i.key == "" || strings.HasPrefix(i.key, fileKey) && len(i.key) == len(fileKey)+2*keyBytes
	if path == "-" && !own {
		return i.cmd.InOrStdin(), func() {}, nil
	}
	f, done, err := i.twice(path)
	if err != nil {
		return nil, nil, err
	}
	if !own {
		return f, done, nil
	}
	sum := sha256.New()
	if _, err = io.Copy(sum, f); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		done()
		return nil, nil, fmt.Errorf("%w: %s cannot be read twice: give a --key, or - and the file as standard input: %w", errInput, path, err)
	}
	bytes := fileKey + hex.EncodeToString(sum.Sum(nil)[:keyBytes])
	if i.key = cmp.Or(i.key, bytes); i.key == bytes {
		i.placed = true
	}
	return f, done, nil
}

// twice opens what can be read twice: a file, or a copy of standard input.
func (i *eventImport) twice(path string) (*os.File, func(), error) {
	if path == "-" {
		return spool(i.cmd.InOrStdin())
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errInput, err)
	}
	return f, func() { _ = f.Close() }, nil
}

// spool copies what comes once to a file that is gone when it is done with.
func spool(in io.Reader) (*os.File, func(), error) {
	f, err := os.CreateTemp("", "tiermesh-import-")
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errInput, err)
	}
	done := func() { _ = errors.Join(f.Close(), os.Remove(f.Name())) }
	_, err = io.Copy(f, in)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		done()
		return nil, nil, fmt.Errorf("%w: standard input: %w", errInput, err)
	}
	return f, done, nil
}

// The words for outcomes, in the order in which they are told.
var outcomeWords = []struct{ outcome, done, would string }{
	{api.OutcomeDone, "events", "would be events"}, {api.OutcomeDuplicate, "there before", "there before"},
	{api.OutcomeQuarantined, "in quarantine", "would be in quarantine"}, {api.OutcomeRejected, "left out", "would be left out"},
	{api.OutcomeUnknown, "of unknown outcome", "of unknown outcome"},
}

// end tells what became of the rows.
func (i *eventImport) end(err error) error {
	out := i.cmd.OutOrStdout()
	unsent := i.rows
	for _, n := range i.counts {
		unsent -= n
	}
	if i.g.output == "json" {
		result := map[string]any{"key": i.key, "dry_run": i.dry, "rows": i.rows, "counts": i.counts, "unsent": unsent}
		if werr := json.NewEncoder(out).Encode(result); werr != nil {
			return werr
		}
	} else {
		fmt.Fprintln(out, i.sum(unsent))
	}
	i.hints()
	bad := i.counts[api.OutcomeRejected] + i.counts[api.OutcomeQuarantined]
	switch {
	case err != nil:
		return err
	case i.counts[api.OutcomeUnknown] > 0:
		return fmt.Errorf("%w: of %s: import the file again with --key %s", api.ErrUnknownOutcome, count(i.counts[api.OutcomeUnknown], "row"), i.key)
	case bad > 0:
		return fmt.Errorf("%w: %d of %s are no events", errInput, bad, count(i.rows, "row"))
	}
	return nil
}

// sum is the line that adds up.
func (i *eventImport) sum(unsent int) string {
	var parts []string
	for _, w := range outcomeWords {
		if n := i.counts[w.outcome]; n > 0 || w.outcome != api.OutcomeUnknown {
			text := w.done
			if i.dry {
				text = w.would
			}
			if n == 1 {
				text = strings.NewReplacer("be events", "be an event", "events", "event").Replace(text)
			}
			parts = append(parts, fmt.Sprintf("%d %s", n, text))
		}
	}
	if unsent > 0 {
		parts = append(parts, fmt.Sprintf("%d not sent", unsent))
	}
	text := count(i.rows, "row") + ": " + strings.Join(parts, ", ")
	if i.dry {
		text += "; nothing was written"
	}
	return text
}

// namesShown is how many values or names a hint has.
const namesShown = 10

// hints tells what would have made more of the rows events.
func (i *eventImport) hints() {
	w := i.cmd.ErrOrStderr()
	for _, field := range slices.Sorted(maps.Keys(i.m.unmapped)) {
		values := i.m.unmapped[field]
		fmt.Fprintf(w, "%s: %s not in the file of --map-values: %s\n", field, count(len(values), "value"), mostly(values))
	}
	if len(i.m.unknown) > 0 {
		names := slices.Sorted(maps.Keys(i.m.unknown))
		fmt.Fprintf(w, "%s: no fields of a report; %s keeps what is left in extra\n", quotedNames(names[:min(len(names), namesShown)]), suggestMap(names))
	}
	for _, format := range slices.Sorted(maps.Keys(i.m.formats)) {
		if i.m.formats[format] == i.m.badTimes {
			fmt.Fprintf(w, "times: --time-format %q would fit all %d that could not be read\n", format, i.m.badTimes)
		}
	}
}

// mostly lists the values that come most often.
func mostly(values map[string]int) string {
	names := slices.SortedFunc(maps.Keys(values), func(a, b string) int {
		return cmp.Or(cmp.Compare(values[b], values[a]), cmp.Compare(a, b))
	})
	var parts []string
	for _, n := range names[:min(len(names), namesShown)] {
		parts = append(parts, fmt.Sprintf("%.60q (%d)", n, values[n]))
	}
	if more := len(names) - namesShown; more > 0 {
		parts = append(parts, fmt.Sprintf("%d more", more))
	}
	return strings.Join(parts, ", ")
}

func (i *eventImport) note(line int, outcome, text string) {
	i.counts[outcome]++
	fmt.Fprintf(i.cmd.ErrOrStderr(), "line %d %s: %s\n", line, outcome, text)
}

// check looks at the rows of a batch without a node.
func (i *eventImport) check() error {
	if len(i.lines) == 0 {
		return nil
	}
	items, err := event.ParseBatch(i.body.Bytes(), true)
	if err != nil {
		return err
	}
	now := time.Now()
	for n, it := range items {
		if it.Err == nil {
			it = checkItem(it.Raw, now)
		}
		_, kept := event.Hold(it.Raw, "", "", 0)
		switch {
		case it.Err == nil:
			i.counts[api.OutcomeDone]++
		case kept == nil:
			i.note(i.lines[n], api.OutcomeQuarantined, it.Err.Error())
		default:
			i.note(i.lines[n], api.OutcomeRejected, kept.Error())
		}
	}
	i.clear()
	return nil
}

func (i *eventImport) clear() {
	i.first += len(i.lines)
	i.body.Reset()
	i.lines, i.places = i.lines[:0], nil
}

func (i *eventImport) send(ctx context.Context, c *api.Client, moved func()) error {
	if len(i.lines) == 0 {
		return nil
	}
	send := c.ReportBatch
	if i.dry {
		send = c.RehearseBatch
	}
	out, err := send(ctx, i.key, i.first, i.places, i.body.Bytes())
	if err != nil {
		return fmt.Errorf("lines %d to %d, --key %s: %w", i.lines[0], i.lines[len(i.lines)-1], i.key, err)
	}
	moved()
	for _, it := range out.Items {
		if it.Index < 0 || it.Index >= len(i.lines) {
			continue
		}
		if it.Outcome == api.OutcomeDone || it.Outcome == api.OutcomeDuplicate {
			i.counts[it.Outcome]++
			continue
		}
		i.note(i.lines[it.Index], it.Outcome, strings.TrimSpace(string(it.ID)+" "+it.Message))
	}
	full := len(i.lines) == importRows
	if i.clear(); full {
		fmt.Fprintf(i.cmd.ErrOrStderr(), "%s sent\n", count(i.first, "row"))
	}
	return nil
}
