package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers/instant"
	"github.com/tiermesh/tiermesh/tiers/legible"
)

// screen is an output for people: nothing that is written to it acts on a terminal
// (package legible). JSON stays the same JSON; what is no text goes to [raw].
type screen struct {
	*legible.Writer
	width    int // in columns; 0 where rows may be as long as they are
	terminal bool
}

func newScreen(w io.Writer) *screen {
	n := terminalWidth(w)
	return &screen{Writer: legible.NewWriter(w), width: n, terminal: n > 0}
}

// raw is the output under a screen, for archives and files of data: they are written
// as they are, unless they go to a terminal.
func raw(w io.Writer) io.Writer {
	if s, ok := w.(*screen); ok && !s.terminal {
		return s.Unwrap()
	}
	return w
}

// terminalWidth is how many columns a terminal has; 0 for what is none.
func terminalWidth(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok {
		return 0
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	if size.Col > 0 {
		return int(size.Col)
	}
	n, err := strconv.Atoi(os.Getenv("COLUMNS"))
	if err != nil {
		return 0
	}
	return max(n, 0)
}

// composed is a text that [sprint] made: its values are legible, its lines its own.
type composed string

// value is shown as [legible.Text] of it.
type value struct{ v any }

// Format implements [fmt.Formatter].
func (x value) Format(f fmt.State, verb rune) {
	switch v := x.v.(type) {
	case composed:
		fmt.Fprintf(f, fmt.FormatString(f, verb), string(v))
	default:
		text := fmt.Sprintf(fmt.FormatString(f, verb), v)
		if verb != 'q' { // which leaves nothing that acts
			text = legible.Text(text)
		}
		_, _ = io.WriteString(f, text)
	}
}

// say is Fprintf for people: the values are one line each, whatever they hold.
func say(w io.Writer, format string, args ...any) (int, error) {
	for i := range args {
		args[i] = value{args[i]}
	}
	return fmt.Fprintf(w, format, args...)
}

// sayln is Fprintln for people, as say.
func sayln(w io.Writer, args ...any) (int, error) {
	for i := range args {
		args[i] = value{args[i]}
	}
	return fmt.Fprintln(w, args...)
}

// sprint is Sprintf for people, as say. What it returns may have several lines.
func sprint(format string, args ...any) composed {
	for i := range args {
		args[i] = value{args[i]}
	}
	return composed(fmt.Sprintf(format, args...))
}

// sayError writes why a command ended.
func sayError(w io.Writer, err error) {
	if text := api.Words(err); text != "" {
		_, _ = say(w, "tiermesh: %s\n", composed(legible.Lines(text, "  ")))
	}
}

// zone is in which people read and write times: the federation's, unless --time-zone
// or $TIERMESH_TZ names another. It is set before a command runs.
var zone = instant.Shanghai

// setZone sets the zone by its name.
func setZone(name string) error {
	z, err := zoneOf(name)
	if err == nil {
		zone = z
	}
	return err
}

// zoneOf is the zone of a name, that of the machine for "Local".
func zoneOf(name string) (*time.Location, error) {
	if name == "Local" {
		return time.Local, nil
	}
	z, err := instant.Zone(name)
	if err != nil {
		return nil, usagef("--time-zone: %s", strings.TrimPrefix(err.Error(), instant.ErrFormat.Error()+": "))
	}
	return z, nil
}

// clock shows a time with the offset of its zone, such as 2026-12-01 11:09:25+08:00,
// as every command does and takes.
func clock(t time.Time) string { return t.In(zone).Format("2006-01-02 15:04:05Z07:00") }

// localTime is [clock] of milliseconds since 1970.
func localTime(ms int64) string { return clock(time.UnixMilli(ms)) }

// clockTime is localTime with milliseconds.
func clockTime(ms int64) string {
	return time.UnixMilli(ms).In(zone).Format("2006-01-02 15:04:05.000Z07:00")
}

// parseTime reads a time of a flag; without an offset it is in the zone.
func parseTime(s string) (int64, error) {
	p, err := instant.New(instant.Options{Zone: zone})
	if err != nil {
		return 0, err
	}
	ms, err := p.Milliseconds(s)
	var wrong *instant.Error
	if errors.As(err, &wrong) {
		return 0, errors.New(strings.TrimPrefix(err.Error(), "instant: "))
	}
	return ms, err
}
