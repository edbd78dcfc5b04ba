package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers/event"
	"github.com/tiermesh/tiermesh/tiers/instant"
)

// Bounds of a request of an import; a batch's own are larger.
const (
	importRows  = 500
	importBytes = 3 << 20
)

// importFields are the columns of a file of events: the fields of a report, its
// identifier, and its time as people write it.
var importFields = []string{
	"id", "source_key", "type", "title", "text", "place", "lat", "lon", "priority", "reporter", "channel", "grid", "reported_at", "reported_at_ms",
}

// The formats of an import.
const (
	formatCSV    = "csv"
	formatJSON   = "json"
	formatNDJSON = "ndjson"
)

func newEventImport(g *global) *cobra.Command {
	i := &eventImport{g: g}
	cmd := &cobra.Command{
		Use: "import FILE|-", Short: "Report many events from a file of CSV, JSON or JSON lines", Args: exactArgs(1),
		Long: `Reports the events of a file, or of standard input. The columns of CSV, or the
fields of a JSON object, are any of
  ` + strings.Join(importFields, ", ") + `.
reported_at is RFC 3339, or a date at UTC+8. A row that is no event is named with
its line and kept in quarantine (tiermesh event quarantine list); one that cannot
even be kept is left out, and the command ends with exit code 3.

The same file may be imported again: rows that were taken in are told from new
ones by the file's bytes, or by --key. With a --key of your own a file that grew
at its end, or whose rows have source keys, may be imported again, too.`,
		Example: `  tiermesh event import events.csv --dry-run
  tiermesh event import events.csv
  printf 'type,title,priority\n01001,井盖,3\n' | tiermesh event import - --format csv --key today`,
		RunE: func(cmd *cobra.Command, args []string) error {
			i.cmd = cmd
			return i.run(args[0])
		},
	}
	f := cmd.Flags()
	f.StringVar(&i.format, "format", "", "csv, json (an array) or ndjson; by the file's name when left out")
	f.StringVar(&i.key, "key", "", "idempotency key of the whole; follows from the file when left out")
	f.BoolVar(&i.dry, "dry-run", false, "only check the rows; nothing is sent, and types are not looked up")
	return cmd
}

// eventImport sends the rows of a file in batches.
type eventImport struct {
	g      *global
	cmd    *cobra.Command
	format string
	key    string
	dry    bool

	counts map[string]int
	body   bytes.Buffer
	lines  []int // of the rows in body
	first  int   // the place of the first of them
}

func (i *eventImport) run(path string) error {
	i.counts = map[string]int{}
	in, done, err := i.open(path)
	if err != nil {
		return err
	}
	defer done()
	if i.format == "" {
		i.format = map[string]string{".csv": formatCSV, ".json": formatJSON, ".ndjson": formatNDJSON, ".jsonl": formatNDJSON}[strings.ToLower(filepath.Ext(path))]
	}
	read := map[string]func(io.Reader, func(int, []byte, error) error) error{formatCSV: eventsCSV, formatJSON: eventsJSON, formatNDJSON: eventsLines}[i.format]
	if read == nil {
		return usagef("--format %q of %s: want csv, json or ndjson", i.format, path)
	}
	if i.dry {
		err = read(in, i.check)
	} else {
		err = i.g.transfer(i.cmd, func(ctx context.Context, c *api.Client, moved func()) error {
			failed := read(in, func(line int, raw []byte, err error) error { return i.add(ctx, c, moved, line, raw, err) })
			if failed == nil {
				failed = i.send(ctx, c, moved)
			}
			return failed
		})
	}
	return i.end(err)
}

// open opens the file; its key follows from its bytes.
func (i *eventImport) open(path string) (io.Reader, func(), error) {
	if path == "-" {
		if i.key == "" {
			i.key = uuid.NewString()
		}
		return i.cmd.InOrStdin(), func() {}, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errInput, err)
	}
	if i.key == "" {
		sum := sha256.New()
		if _, err := io.Copy(sum, f); err != nil {
			return nil, nil, errors.Join(fmt.Errorf("%w: %w", errInput, err), f.Close())
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return nil, nil, errors.Join(fmt.Errorf("%w: %s cannot be read twice: give a --key: %w", errInput, path, err), f.Close())
		}
		i.key = "import-" + hex.EncodeToString(sum.Sum(nil)[:16])
	}
	return f, func() { _ = f.Close() }, nil
}

// end tells what became of the rows.
func (i *eventImport) end(err error) error {
	out := i.cmd.OutOrStdout()
	switch {
	case i.g.output == "json":
		if werr := json.NewEncoder(out).Encode(map[string]any{"key": i.key, "dry_run": i.dry, "counts": i.counts}); werr != nil {
			return werr
		}
	case i.dry:
		fmt.Fprintf(out, "%d rows are good, %d are not; nothing was sent\n", i.counts[api.OutcomeDone], i.counts[api.OutcomeQuarantined]+i.counts[api.OutcomeRejected])
	default:
		fmt.Fprintf(out, "%d events reported, %d were there before, %d in quarantine, %d left out\n",
			i.counts[api.OutcomeDone], i.counts[api.OutcomeDuplicate], i.counts[api.OutcomeQuarantined], i.counts[api.OutcomeRejected])
	}
	switch {
	case err != nil:
		return err
	case i.counts[api.OutcomeUnknown] > 0:
		return fmt.Errorf("%w: of %d rows: import the file again with --key %s", api.ErrUnknownOutcome, i.counts[api.OutcomeUnknown], i.key)
	case i.counts[api.OutcomeRejected] > 0 || i.dry && i.counts[api.OutcomeQuarantined] > 0:
		return fmt.Errorf("%w: %d rows are no events", errInput, i.counts[api.OutcomeRejected]+i.counts[api.OutcomeQuarantined])
	}
	return nil
}

func (i *eventImport) note(line int, outcome, text string) {
	i.counts[outcome]++
	fmt.Fprintf(i.cmd.ErrOrStderr(), "line %d %s: %s\n", line, outcome, text)
}

// check looks at a row without sending it.
func (i *eventImport) check(line int, raw []byte, err error) error {
	var it event.Item
	if err == nil {
		it = event.ParseItem(raw)
		err = it.Err
	}
	if err == nil {
		now := time.Now()
		if it.Report.ReportedAtMS == 0 {
			it.Report.ReportedAtMS = now.UnixMilli()
		}
		err = it.Report.Validate(now)
	}
	if err != nil {
		i.note(line, api.OutcomeRejected, err.Error())
		return nil
	}
	i.counts[api.OutcomeDone]++
	return nil
}

// add adds a row to the batch, which it sends when it is full.
func (i *eventImport) add(ctx context.Context, c *api.Client, moved func(), line int, raw []byte, err error) error {
	if err != nil {
		i.note(line, api.OutcomeRejected, err.Error())
		return nil
	}
	if len(i.lines) == importRows || i.body.Len()+len(raw) > importBytes {
		if err := i.send(ctx, c, moved); err != nil {
			return err
		}
	}
	i.body.Write(raw)
	i.body.WriteByte('\n')
	i.lines = append(i.lines, line)
	return nil
}

func (i *eventImport) send(ctx context.Context, c *api.Client, moved func()) error {
	if len(i.lines) == 0 {
		return nil
	}
	out, err := c.ReportBatch(ctx, i.key, i.first, i.body.Bytes())
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
	i.first += len(i.lines)
	if len(i.lines) == importRows {
		fmt.Fprintf(i.cmd.ErrOrStderr(), "%d rows sent\n", i.first)
	}
	i.body.Reset()
	i.lines = i.lines[:0]
	return nil
}

// eventsLines calls f with each line that is not empty.
func eventsLines(in io.Reader, f func(line int, raw []byte, err error) error) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, importBytes)
	n := 1
	for ; lines.Scan(); n++ {
		if raw := bytes.TrimSpace(lines.Bytes()); len(raw) > 0 {
			if err := f(n, withTime(raw), nil); err != nil {
				return err
			}
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("%w: line %d: %w", errInput, n, err)
	}
	return nil
}

// eventsJSON calls f with each element of an array, by its number.
func eventsJSON(in io.Reader, f func(line int, raw []byte, err error) error) error {
	dec := json.NewDecoder(in)
	if t, err := dec.Token(); err != nil || t != json.Delim('[') {
		return fmt.Errorf("%w: want an array of reports; for JSON lines use --format ndjson", errInput)
	}
	for n := 1; dec.More(); n++ {
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return fmt.Errorf("%w: report %d: %w", errInput, n, err)
		}
		var line bytes.Buffer // on one, since a batch is of lines
		if err := json.Compact(&line, raw); err != nil {
			return fmt.Errorf("%w: report %d: %w", errInput, n, err)
		}
		if err := f(n, withTime(line.Bytes()), nil); err != nil {
			return err
		}
	}
	if _, err := dec.Token(); err != nil {
		return fmt.Errorf("%w: the array does not end: %w", errInput, err)
	}
	return nil
}

// withTime puts a time as people write it into milliseconds; a row that has none, or
// is no object, is left as it is.
func withTime(raw []byte) []byte {
	if !bytes.Contains(raw, []byte(`"reported_at"`)) {
		return raw
	}
	fields := map[string]json.RawMessage{}
	var text string
	if json.Unmarshal(raw, &fields) != nil || json.Unmarshal(fields["reported_at"], &text) != nil {
		return raw
	}
	ms, err := instant.Milliseconds(text)
	if err != nil {
		return raw // it is kept with what is wrong with it
	}
	delete(fields, "reported_at")
	fields["reported_at_ms"] = json.RawMessage(strconv.FormatInt(ms, 10))
	out, err := json.Marshal(fields)
	if err != nil {
		return raw
	}
	return out
}

// eventsCSV calls f with each row, as JSON.
func eventsCSV(in io.Reader, f func(line int, raw []byte, err error) error) error {
	rows := csv.NewReader(in)
	rows.FieldsPerRecord = -1
	header, err := rows.Read()
	if err != nil {
		return fmt.Errorf("%w: no header: %w", errInput, err)
	}
	header[0] = strings.TrimPrefix(header[0], "\ufeff") // as spreadsheets write it
	for i, name := range header {
		if header[i] = strings.TrimSpace(name); !slices.Contains(importFields, header[i]) || slices.Contains(header[:i], header[i]) {
			return fmt.Errorf("%w: column %d is %.40q: want each once, of %s", errInput, i+1, name, strings.Join(importFields, ", "))
		}
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
		var raw []byte
		if bad != nil {
			line, err = bad.StartLine, bad.Err
		} else {
			line, _ = rows.FieldPos(0)
			raw, err = eventRow(header, row)
		}
		if err := f(line, raw, err); err != nil {
			return err
		}
	}
}

// eventRow makes the JSON of a row. What is no number where one belongs is left as
// text, so that the row is kept in quarantine.
func eventRow(header, row []string) ([]byte, error) {
	if len(row) != len(header) {
		return nil, fmt.Errorf("%d columns: want %d, as the header has", len(row), len(header))
	}
	fields := map[string]any{}
	for i, name := range header {
		value := row[i]
		if value == "" {
			continue
		}
		fields[name] = value
		switch name {
		case "lat", "lon":
			if v, err := strconv.ParseFloat(value, 64); err == nil && v-v == 0 { // JSON has no infinity
				fields[name] = v
			}
		case "priority", "reported_at_ms":
			if v, err := strconv.ParseInt(value, 10, 64); err == nil {
				fields[name] = v
			}
		}
	}
	raw, err := json.Marshal(fields)
	return withTime(raw), err
}
