package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/api"
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
func (g *global) reportFile(cmd *cobra.Command, c *api.Client, file string) error {
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
		read = g.feedLines(ctx, feed, in, lines)
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
		return fmt.Errorf("%w: %d lines were set aside", errInput, bad)
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
func (g *global) feedLines(ctx context.Context, feed *api.Feed, in io.Reader, lines chan<- *reportedLine) error {
	text := bufio.NewScanner(in)
	text.Buffer(nil, 1<<20)
	n := 1
	for ; text.Scan(); n++ {
		if strings.TrimSpace(text.Text()) == "" {
			continue
		}
		select {
		case lines <- g.feedLine(ctx, feed, n, text.Bytes()):
		case <-ctx.Done():
			return nil // the command has ended
		}
	}
	if err := text.Err(); err != nil {
		return fmt.Errorf("%w: line %d: %w", errInput, n, err)
	}
	return nil
}

func (g *global) feedLine(ctx context.Context, feed *api.Feed, n int, text []byte) *reportedLine {
	l := &reportedLine{n: n, until: time.Now().Add(time.Duration(g.timeout))}
	var r api.ReportRequest
	if err := json.Unmarshal(text, &r); err != nil {
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
