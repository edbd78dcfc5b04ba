package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
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

// reportedLine is what became of a line of a file of reports.
type reportedLine struct {
	n      int
	result api.WriteResult
	err    error
	done   chan struct{} // closed when result and err stand
}

// reportFile reports line by line; a bad line is named and set aside, the rest
// goes on, and the command ends in an error.
func (g *global) reportFile(cmd *cobra.Command, c *api.Client, file string) error {
	in := cmd.InOrStdin()
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return fmt.Errorf("%w: %w", errInput, err)
		}
		defer func() { _ = f.Close() }()
		in = f
	}
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
	for l := range lines {
		<-l.done
		if l.err == nil {
			l.err = g.printReport(cmd, l.result)
		}
		if l.err == nil {
			continue
		}
		if code := exitCode(l.err); code != exitInvalid && code != exitRejected {
			return fmt.Errorf("line %d: %w", l.n, l.err)
		}
		bad++
		fmt.Fprintf(cmd.ErrOrStderr(), "line %d set aside: %v\n", l.n, l.err)
	}
	if read != nil {
		return read
	}
	if bad > 0 {
		return fmt.Errorf("%w: %d lines were set aside", errInput, bad)
	}
	return nil
}

// feedLines reports each line that is not empty, and puts it into lines in its order.
func (g *global) feedLines(ctx context.Context, feed *api.Feed, in io.Reader, lines chan<- *reportedLine) error {
	text := bufio.NewScanner(in)
	text.Buffer(nil, 1<<20)
	n := 1
	for ; text.Scan(); n++ {
		if strings.TrimSpace(text.Text()) == "" {
			continue
		}
		l := &reportedLine{n: n, done: make(chan struct{})}
		var r api.ReportRequest
		if err := json.Unmarshal(text.Bytes(), &r); err != nil {
			l.err = fmt.Errorf("%w: %w", errInput, err)
		}
		select {
		case lines <- l:
		case <-ctx.Done():
			return nil // the command has ended
		}
		if l.err != nil {
			close(l.done)
			continue
		}
		go func() { // ends within the time-out
			defer close(l.done)
			ctx, cancel := context.WithTimeout(ctx, time.Duration(g.timeout))
			defer cancel()
			if l.result, l.err = feed.Report(ctx, r); l.err != nil {
				l.err = fmt.Errorf("key %s: %w", r.Key, l.err)
			}
		}()
	}
	if err := text.Err(); err != nil {
		return fmt.Errorf("%w: line %d: %w", errInput, n, err)
	}
	return nil
}
