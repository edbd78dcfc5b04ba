package main

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/tiermesh/tiermesh/tiers/event"
)

// TestEventRows: rows become the reports that they say, each with its line.
func TestEventRows(t *testing.T) {
	type row struct {
		line int
		raw  string
		bad  string
	}
	for name, c := range map[string]struct {
		read func(io.Reader, func(int, []byte, error) error) error
		in   string
		want []row
		fail string
	}{
		"csv": {eventsCSV, "\ufefftype, title ,lat,priority,reported_at\n01001,\"a\nb\",29.5,3,2026-11-25\n01001,x,north,high,\n1,2\n\"a\"b,x,,,\n", []row{
			{2, `{"lat":29.5,"priority":3,"reported_at_ms":1795536000000,"title":"a\nb","type":"01001"}`, ""},
			{4, `{"lat":"north","priority":"high","title":"x","type":"01001"}`, ""},
			{5, "", "2 columns: want 5"}, {6, "", `extraneous or missing`},
		}, ""},
		"csv, infinite":       {eventsCSV, "lat\nInf\n", []row{{2, `{"lat":"Inf"}`, ""}}, ""},
		"csv, a bad time":     {eventsCSV, "reported_at\nsoon\n", []row{{2, `{"reported_at":"soon"}`, ""}}, ""},
		"csv, a column":       {eventsCSV, "type,colour\n", nil, "colour"},
		"csv, a column twice": {eventsCSV, "type,type\n", nil, "each once"},
		"csv, nothing":        {eventsCSV, "", nil, "no header"},
		"json":                {eventsJSON, `[{"a":1,` + "\n" + `"b":2}, 7]`, []row{{1, `{"a":1,"b":2}`, ""}, {2, `7`, ""}}, ""},
		"json, no array":      {eventsJSON, `{}`, nil, "ndjson"},
		"json, no end":        {eventsJSON, `[{}`, []row{{1, `{}`, ""}}, "does not end"},
		"json, broken":        {eventsJSON, `[{]`, nil, "report 1"},
		"lines":               {eventsLines, "{}\n\n  not JSON \n", []row{{1, `{}`, ""}, {3, `not JSON`, ""}}, ""},
		"lines, a long one":   {eventsLines, strings.Repeat("x", importBytes+1), nil, "line 1"},
	} {
		var got []row
		err := c.read(strings.NewReader(c.in), func(line int, raw []byte, err error) error {
			r := row{line: line, raw: string(raw)}
			if err != nil {
				r.bad = err.Error()
			}
			got = append(got, r)
			return nil
		})
		if c.fail == "" && err != nil || c.fail != "" && (!errors.Is(err, errInput) || !strings.Contains(err.Error(), c.fail)) {
			t.Errorf("%s: %v, want %q", name, err, c.fail)
		}
		if len(got) != len(c.want) {
			t.Errorf("%s: %+v", name, got)
			continue
		}
		for i, w := range c.want {
			if got[i].line != w.line || got[i].raw != w.raw || (w.bad == "") != (got[i].bad == "") || !strings.Contains(got[i].bad, w.bad) {
				t.Errorf("%s: %+v, want %+v", name, got[i], w)
			}
		}
	}
}

// FuzzEventRows: no file ends the readers, and each row that they find stands on one
// line, so that the rows of a batch stay apart.
func FuzzEventRows(f *testing.F) {
	f.Add([]byte("type,title,priority,reported_at\n01001,\"a\nb\",x,2026-11-25\n"))
	f.Add([]byte(`[{"type":"a"},7]`))
	f.Add([]byte("{\"reported_at\":\"2026-11-25\"}\n\xff\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, read := range []func(io.Reader, func(int, []byte, error) error) error{eventsCSV, eventsJSON, eventsLines} {
			var batch bytes.Buffer
			rows := 0
			err := read(bytes.NewReader(b), func(_ int, raw []byte, err error) error {
				if err == nil && len(bytes.TrimSpace(raw)) > 0 && rows < event.BatchMax {
					rows++
					batch.Write(raw)
					batch.WriteByte('\n')
				}
				return nil
			})
			if err != nil && !errors.Is(err, errInput) {
				t.Fatal(err)
			}
			if rows == 0 || batch.Len() > event.BatchBytesMax {
				continue
			}
			if items, err := event.ParseBatch(batch.Bytes(), true); err != nil || len(items) != rows {
				t.Fatalf("%d rows became %d reports, %v", rows, len(items), err)
			}
		}
	})
}
