package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"golang.org/x/text/width"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers/legible"
)

// column is one column of a table: its title and the path of its value in a
// view's JSON. A wide column shows with -o wide only.
type column struct {
	title string
	path  string
	wide  bool
	// short shows the last digits of an identifier; -o wide and json have all of it.
	short bool
}

// openInput opens a file, or standard input for "-".
func openInput(cmd *cobra.Command, file string) (io.ReadCloser, error) {
	if file == "-" {
		return io.NopCloser(cmd.InOrStdin()), nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errInput, err)
	}
	return f, nil
}

// connect returns a client of the node, with the token of a file where one is named.
func (g *global) connect() (*api.Client, error) {
	c := api.NewClient(g.api)
	if g.token == "" {
		return c, nil
	}
	b, err := os.ReadFile(g.token)
	if err != nil {
		return nil, fmt.Errorf("%w: --token-file: %w", errInput, err)
	}
	return c.Bearing(strings.TrimSpace(string(b))), nil
}

// client runs f against the node, within the time-out.
func (g *global) client(cmd *cobra.Command, f func(ctx context.Context, c *api.Client) error) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), time.Duration(g.timeout))
	defer cancel()
	c, tell, err := g.dial(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	defer tell()
	return f(ctx, c.Reading(g.read))
}

// dial returns a client of the node, and what tells at the command's end that what it
// wrote is not on its way up.
func (g *global) dial(cmd *cobra.Command) (c *api.Client, tell func(), err error) {
	if c, err = g.connect(); err != nil {
		return nil, nil, err
	}
	var last atomic.Pointer[api.Waits]
	c = c.Noting(func(w api.Waits) { last.Store(&w) })
	return c, func() {
		if dry := cmd.Flags().Lookup("dry-run"); dry != nil && dry.Changed {
			return
		}
		if w := last.Load(); w != nil {
			fmt.Fprintf(cmd.ErrOrStderr(), "note: %s\n", w)
		}
	}, nil
}

// errIdle is the cause that ends a transfer of which nothing moves any more.
var errIdle = errors.New("nothing moved for the time-out")

// transfer runs f against the node. The time-out counts from the last call of
// moved, since a transfer takes as long as it is large.
func (g *global) transfer(cmd *cobra.Command, f func(ctx context.Context, c *api.Client, moved func()) error) error {
	ctx, cancel := context.WithCancelCause(cmd.Context())
	defer cancel(nil)
	idle := time.AfterFunc(time.Duration(g.timeout), func() { cancel(errIdle) })
	defer idle.Stop()
	c, tell, err := g.dial(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	defer tell()
	err = f(ctx, c, func() { idle.Reset(time.Duration(g.timeout)) })
	if err != nil && errors.Is(context.Cause(ctx), errIdle) {
		return fmt.Errorf("%w: %w of %s; doing it again is harmless", context.DeadlineExceeded, errIdle, time.Duration(g.timeout))
	}
	return err
}

// print writes views as JSON lines or as a table.
func (g *global) print(w io.Writer, columns []column, items []json.RawMessage) error {
	if g.output == "json" {
		for _, it := range items {
			if _, err := fmt.Fprintf(w, "%s\n", it); err != nil {
				return err
			}
		}
		return nil
	}
	var header []string
	var rows [][]string
	for _, c := range columns {
		if !c.wide || g.output == "wide" {
			header = append(header, c.title)
		}
	}
	for _, it := range items {
		var v any
		if err := json.Unmarshal(it, &v); err != nil {
			return fmt.Errorf("view does not decode: %w", err)
		}
		var row []string
		for _, c := range columns {
			if !c.wide || g.output == "wide" {
				path := c.path
				if path == "id" && cell(v, "full_name") != "-" { // several have the bare one
					path = "full_name"
				}
				text := cell(v, path)
				if c.short && g.output == "table" {
					text = api.Short(text)
				}
				row = append(row, text)
			}
		}
		rows = append(rows, row)
	}
	return table(w, header, rows)
}

// cell reads a dotted path; a list shows as its length, a time in the zone.
func cell(v any, path string) string {
	last := ""
	for part := range strings.SplitSeq(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return "-"
		}
		v, last = m[part], part
	}
	switch v := v.(type) {
	case nil:
		return "-"
	case string:
		return orDash(strings.Join(strings.Fields(legible.Text(v)), " "))
	case float64:
		if strings.HasSuffix(last, "_ms") {
			return localTime(int64(v))
		}
		return fmt.Sprint(v)
	case []any:
		return fmt.Sprint(len(v))
	default:
		return fmt.Sprint(v)
	}
}

// table writes aligned columns; East Asian characters count double. A value is one
// line and legible, whatever it holds. On a terminal the widest texts are cut, so that
// a row fits.
func table(w io.Writer, header []string, rows [][]string) error {
	all := [][]string{header}
	for _, row := range rows {
		shown := make([]string, len(row))
		for i, c := range row {
			shown[i] = legible.Text(c)
		}
		all = append(all, shown)
	}
	widths := make([]int, len(header))
	for _, row := range all {
		for i, c := range row {
			widths[i] = max(widths[i], columns(c))
		}
	}
	if s, ok := w.(*screen); ok && s.width > 0 {
		fit(widths, all, s.width)
	}
	for _, row := range all {
		var b strings.Builder
		for i, c := range row {
			c = cut(c, widths[i])
			b.WriteString(c)
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-columns(c)+columnGap))
			}
		}
		if _, err := fmt.Fprintln(w, strings.TrimRight(b.String(), " ")); err != nil {
			return err
		}
	}
	return nil
}

const (
	// columnGap is between two columns of a table.
	columnGap = 2
	// cutMin is the width below which no column is cut.
	cutMin = 12
)

// identifier matches what people copy into the next command, and times: a part of
// them is of no use.
var identifier = regexp.MustCompile(`^[a-z]+:[0-9a-f-]{8,}|^\d{4}-\d\d-\d\d |^unix:|^[0-9a-f]{12,}$`)

// fit takes the widest texts in until a row fits into a width, or nothing can be cut
// any more.
func fit(widths []int, all [][]string, width int) {
	least := make([]int, len(widths))
	for i := range widths {
		least[i] = max(columns(all[0][i]), cutMin)
		for _, row := range all[1:] {
			if i < len(row) && identifier.MatchString(row[i]) {
				least[i] = widths[i]
				break
			}
		}
	}
	for over := columnGap*(len(widths)-1) - width + sum(widths); over > 0; over-- {
		widest := -1
		for i, n := range widths {
			if n > least[i] && (widest < 0 || n > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return
		}
		widths[widest]--
	}
}

func sum(all []int) (n int) {
	for _, x := range all {
		n += x
	}
	return n
}

// cut shortens a text to so many columns, with an ellipsis for what is left out.
func cut(s string, width int) string {
	if columns(s) <= width {
		return s
	}
	n := 0
	for i, r := range s {
		if n += runeColumns(r); n > width-1 {
			return s[:i] + "…"
		}
	}
	return s
}

// columns returns how many terminal columns a text takes.
func columns(s string) (n int) {
	for _, r := range s {
		n += runeColumns(r)
	}
	return n
}

// runeColumns is how wide a character is: 2 for East Asian ones and most pictographs,
// 0 for what is drawn over the one before.
func runeColumns(r rune) int {
	if unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf) {
		return 0
	}
	if k := width.LookupRune(r).Kind(); k == width.EastAsianWide || k == width.EastAsianFullwidth {
		return 2
	}
	return 1
}

// orTemporary puts a temporary directory into dir when it names none, and
// returns what removes it.
func orTemporary(dir *string) (remove func(), err error) {
	if *dir != "" {
		return func() {}, nil
	}
	tmp, err := os.MkdirTemp("", "tiermesh-")
	if err != nil {
		return nil, fmt.Errorf("temporary directory: %w", err)
	}
	*dir = tmp
	return func() { _ = os.RemoveAll(tmp) }, nil
}

// count writes how many things there are: 1 row, 2 rows, 2 entries.
func count[N int | int32 | int64 | uint | uint32 | uint64](n N, thing string) string {
	if n != 1 {
		if stem, ok := strings.CutSuffix(thing, "ry"); ok {
			thing = stem + "rie"
		}
		thing += "s"
	}
	return fmt.Sprint(n, " ", thing)
}
