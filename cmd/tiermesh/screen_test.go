package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/tiermesh/tiermesh/api"
)

// hostile is a title that acts on a terminal, hides and reverses letters, and looks
// like a row of its own.
const hostile = "x\x1b[2J\a\u009b1m\u202eabc\u200b\x7f\r\nevent:fake  2026-12-01 00:00:00  closed"

// quiet fails for an output that acts on a terminal, or holds a line that a value made.
func quiet(t *testing.T, what, out string) {
	t.Helper()
	if strings.ContainsAny(out, "\x1b\a\r\x7f\u009b\u202e\u200b") {
		t.Errorf("%s acts on the terminal: %q", what, out)
	}
	for line := range strings.SplitSeq(out, "\n") {
		if strings.HasPrefix(line, "event:fake") {
			t.Errorf("%s has a line that a value made: %q", what, out)
		}
	}
}

// TestScreenIsQuiet: whatever way a value takes to a screen, it stays one line there
// and acts on nothing.
func TestScreenIsQuiet(t *testing.T) {
	type named string
	for _, row := range []struct {
		name string
		do   func(w *screen) error
	}{
		{"table", func(w *screen) error { return table(w, []string{"TITLE"}, [][]string{{hostile}}) }},
		{"say", func(w *screen) error {
			_, err := say(w, "%s %v %-80s|%q\n", hostile, []string{hostile}, named(hostile), hostile)
			return err
		}},
		{"say an error", func(w *screen) error { _, err := say(w, "%v\n", errors.New(hostile)); return err }},
		{"sayln", func(w *screen) error { _, err := sayln(w, "alarm:", hostile); return err }},
		{"sprint", func(w *screen) error { _, err := sayln(w, sprint("a %s\nb %s", hostile, hostile)); return err }},
		{"an error's text", func(w *screen) error { sayError(w, fmt.Errorf("%w: %s", errInput, hostile)); return nil }},
	} {
		t.Run(row.name, func(t *testing.T) {
			var b bytes.Buffer
			if err := row.do(newScreen(&b)); err != nil {
				t.Fatal(err)
			}
			quiet(t, row.name, b.String())
			if !strings.Contains(b.String(), `x\x1b[2J\x07`) {
				t.Errorf("the title is not shown: %q", b.String())
			}
		})
	}
}

// TestRowsFitATerminal: the widest texts are cut, what is copied into the next command
// is not, and nothing is cut where there is no terminal.
func TestRowsFitATerminal(t *testing.T) {
	id := "event:0190f1c2-0000-7000-8000-000000000001"
	rows := [][]string{{id, strings.Repeat("长", 80), strings.Repeat("place ", 20), "3"}, {id, "short", "-", "4"}}
	for _, row := range []struct {
		width, most int
	}{{100, 100}, {80, 80}, {20, len(id) + 2*columnGap + 2*cutMin + columnGap + 1}, {0, 1000}} {
		var b bytes.Buffer
		s := newScreen(&b)
		s.width = row.width
		if err := table(s, []string{"ID", "TITLE", "PLACE", "P"}, rows); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(b.String()), "\n")
		for i, line := range lines {
			if n := columns(line); n > row.most || i > 0 && !strings.HasPrefix(line, id) {
				t.Errorf("width %d: a line of %d: %q", row.width, n, line)
			}
		}
		if cut := strings.Contains(lines[1], "…"); cut != (row.width > 0) || strings.Contains(lines[2], "…") {
			t.Errorf("width %d: %q", row.width, lines)
		}
	}
}

// TestTimesNameTheirZone: a time that is shown is a time that is taken, whatever zone
// people read it in.
func TestTimesNameTheirZone(t *testing.T) {
	at := time.Date(2026, 11, 30, 19, 9, 25, 0, time.UTC)
	for name, want := range map[string]string{
		"": "2026-12-01 03:09:25+08:00", "UTC": "2026-11-30 19:09:25Z", "-05:00": "2026-11-30 14:09:25-05:00", "Asia/Shanghai": "2026-12-01 03:09:25+08:00",
	} {
		t.Run(name, func(t *testing.T) {
			before := zone
			t.Cleanup(func() { zone = before })
			if err := setZone(name); err != nil {
				t.Fatal(err)
			}
			if got := clock(at); got != want {
				t.Fatalf("%s, want %s", got, want)
			}
			if ms, err := parseTime(want); err != nil || ms != at.UnixMilli() {
				t.Fatalf("parseTime(%q) = %d, %v", want, ms, err)
			}
			if ms, err := parseTime(want[:19]); err != nil || ms != at.UnixMilli() {
				t.Fatalf("parseTime(%q) = %d, %v", want[:19], ms, err)
			}
		})
	}
	if err := setZone("Nowhere"); exitCode(err) != exitUsage {
		t.Fatalf("an unknown zone: %v", err)
	}
}

// TestUnknownCommandsAreRefused: each parent refuses a subcommand that it does not
// have, and names the one that was meant.
func TestUnknownCommandsAreRefused(t *testing.T) {
	n := 0
	var walk func(c *cobra.Command, path []string)
	walk = func(c *cobra.Command, path []string) {
		if !c.HasSubCommands() {
			return
		}
		n++
		meant := c.Commands()[0].Name()
		for _, args := range [][]string{append(path[:len(path):len(path)], "zzzzqq"), append(path[:len(path):len(path)], meant+"x"), append(append([]string{"help"}, path...), "zzzzqq")} {
			var out, diagnostics bytes.Buffer
			if code := execute(context.Background(), args, strings.NewReader(""), &out, &diagnostics); code != exitUsage || out.Len() > 0 {
				t.Errorf("tiermesh %s: code %d, %q", strings.Join(args, " "), code, out.String())
			}
			text := diagnostics.String()
			if last := args[len(args)-1]; !strings.Contains(text, `unknown command "`+last+`"`) || last == meant+"x" && !strings.Contains(text, "did you mean "+meant) {
				t.Errorf("tiermesh %s: %q", strings.Join(args, " "), text)
			}
		}
		for _, sub := range c.Commands() {
			if sub.Name() != "help" {
				walk(sub, append(path[:len(path):len(path)], sub.Name()))
			}
		}
	}
	walk(newRoot(), nil)
	if n < 20 {
		t.Fatalf("%d parents were tried", n)
	}
}

// TestWrongArgumentsAreUsage: what cobra refuses by itself is a mistake in the command
// line, too.
func TestWrongArgumentsAreUsage(t *testing.T) {
	for _, args := range [][]string{{"event", "correct"}, {"event", "duplicates", "a", "b"}, {"version", "x"}, {"completion", "bash", "x"}} {
		var out, diagnostics bytes.Buffer
		if code := execute(context.Background(), args, strings.NewReader(""), &out, &diagnostics); code != exitUsage {
			t.Errorf("tiermesh %s: code %d: %s", strings.Join(args, " "), code, diagnostics.String())
		}
	}
}

// TestErrorsNameNoPackages: an error that a command ends with is for people.
func TestErrorsNameNoPackages(t *testing.T) {
	var b bytes.Buffer
	sayError(&b, fmt.Errorf("%w: store: resource is held: store: resource is held", api.ErrRejected))
	if got, want := b.String(), "tiermesh: rejected: resource is held\n"; got != want {
		t.Fatalf("%q, want %q", got, want)
	}
}
