package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers/input"
)

func (g *global) reportOne(ctx context.Context, cmd *cobra.Command, c *api.Client, r api.ReportRequest) error {
	w, err := c.Report(ctx, r)
	if err != nil {
		return fmt.Errorf("key %s: %w", r.Key, err)
	}
	return g.printReport(cmd, w)
}

func (g *global) printReport(cmd *cobra.Command, w api.WriteResult) error {
	if w.Held != "" {
		fmt.Fprintf(cmd.ErrOrStderr(), "in quarantine: %s\n", w.Held)
	}
	if g.output == "json" {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(w)
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s  %s  %d\n", w.ID, w.Stream, w.Seq)
	return err
}

// reportedLine is a line of a file of reports: sent, or not, and why.
type reportedLine struct {
	n     int
	key   string
	sent  *api.FedReport
	err   error
	until time.Time // when its time-out ends
}

// reportFile reports line by line; a bad line is named and set aside, the rest
// goes on, and the command ends in an error.
func (g *global) reportFile(cmd *cobra.Command, c *api.Client, file, encoding string) error {
	in, err := openInput(cmd, file)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	feed := c.Feed()
	defer feed.Close()
	lines := make(chan *reportedLine, api.FeedMax)
	var read error
	go func() { // ends with the input, or with the program when that does not end
		defer close(lines)
		read = g.feedLines(ctx, feed, in, encoding, lines)
	}()
	bad := 0
	for more := true; more; {
		var l *reportedLine
		select {
		case l, more = <-lines:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if !more {
			break
		}
		err := g.printLine(cmd, l)
		if err == nil {
			continue
		}
		if code := exitCode(err); code != exitInvalid && code != exitRejected {
			return fmt.Errorf("line %d: %w", l.n, err)
		}
		bad++
		fmt.Fprintf(cmd.ErrOrStderr(), "line %d set aside: %v\n", l.n, err)
	}
	if read != nil {
		return read
	}
	if bad > 0 {
		return fmt.Errorf("%w: %s set aside", errInput, count(bad, "line"))
	}
	return nil
}

// printLine waits for what became of a line and prints it.
func (g *global) printLine(cmd *cobra.Command, l *reportedLine) error {
	if l.err != nil {
		return l.err
	}
	ctx, cancel := context.WithDeadline(cmd.Context(), l.until)
	defer cancel()
	w, err := l.sent.Result(ctx)
	if err != nil {
		return fmt.Errorf("key %s: %w", l.key, err)
	}
	return g.printReport(cmd, w)
}

// feedLines sends each line that is not empty, and puts it into lines in its order.
func (g *global) feedLines(ctx context.Context, feed *api.Feed, in io.Reader, encoding string, lines chan<- *reportedLine) error {
	rows, err := input.Open(in, input.Options{Format: input.NDJSON, Encoding: encoding})
	if err != nil {
		return fmt.Errorf("%w: %w", errInput, err)
	}
	for {
		row, err := rows.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", errInput, err)
		}
		select {
		case lines <- g.feedLine(ctx, feed, row):
		case <-ctx.Done():
			return nil // the command has ended
		}
	}
}

func (g *global) feedLine(ctx context.Context, feed *api.Feed, row input.Row) *reportedLine {
	l := &reportedLine{n: row.Line, until: time.Now().Add(time.Duration(g.timeout))}
	r, err := lineRequest(row)
	if err != nil {
		l.err = fmt.Errorf("%w: %w", errInput, err)
		return l
	}
	ctx, cancel := context.WithDeadline(ctx, l.until)
	defer cancel()
	l.key = r.Key
	if l.sent, l.err = feed.Send(ctx, r); l.err != nil {
		l.err = fmt.Errorf("key %s: %w", r.Key, l.err)
	}
	return l
}

// lineRequest is the request of a line.
func lineRequest(row input.Row) (api.ReportRequest, error) {
	if row.Err != nil {
		return api.ReportRequest{}, row.Err
	}
	const want = `want {"key": …, "report": {…}}, with a key that makes a retry safe; ` +
		"a file of plain reports is taken in by tiermesh event import FILE --format ndjson"
	if _, ok := row.Field("report"); !ok {
		return api.ReportRequest{}, errors.New("no field report: " + want)
	}
	if key, ok := row.Field("key"); !ok || key.Text == "" {
		return api.ReportRequest{}, errors.New("no field key: " + want)
	}
	r, err := api.ParseReportRequest(string(row.JSON))
	if err == nil && r.Unread != nil {
		err = r.Unread
	}
	return r, err
}
