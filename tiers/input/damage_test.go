package input_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/tiers/input"
)

// sample is the beginning of a real file: its header and some rows.
func sample(t testing.TB) (header string, rows []string) {
	t.Helper()
	b, err := os.ReadFile("../../testbed/data/nyc311.csv")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.ReplaceAll(string(b), "\r", ""), "\n")
	rows = lines[1:60]
	return lines[0], rows
}

// harm damages a row: it stays one line, and is no blank one.
func harm(t *rapid.T, row string) string {
	at := rapid.IntRange(0, len(row)-1).Draw(t, "at")
	switch rapid.IntRange(0, 7).Draw(t, "kind") {
	case 0:
		return row[:at] + `"` + row[at:]
	case 1: // an open quote at a cell's beginning
		return strings.Replace(row, ",", `,"`, 1)
	case 2:
		return row[:at] + "\x00" + row[at:]
	case 3:
		return row[:at] + "\xbe\xae" + row[at:]
	case 4:
		return row[:at/2+1]
	case 5:
		return row[:at] + "," + row[at:]
	case 6:
		return row[:at] + `\` + row[at+1:]
	default:
		return row[:at] + `}` + row[at:]
	}
}

// tally checks what holds of every file: rows are counted, their lines are the file's,
// in order, and all bytes are there. It returns the lines of the rows that are good.
func tally(t *rapid.T, text string, headers int, rows []input.Row) map[int]input.Row {
	lines := strings.SplitAfter(text, "\n")
	good := map[int]input.Row{}
	next := headers + 1
	for i, r := range rows {
		for next < r.Line && strings.TrimSpace(lines[next-1]) == "" {
			next++
		}
		if r.Number != i+1 || r.Line != next || r.Size < len(r.Raw) {
			t.Fatalf("row %d is number %d and at line %d: want %d", i+1, r.Number, r.Line, next)
		}
		if whole := strings.TrimRight(strings.Join(lines[r.Line-1:r.Line-1+r.Lines], ""), "\r\n"); whole != string(r.Raw) {
			t.Fatalf("line %d is %q: kept %q", r.Line, whole, r.Raw)
		}
		if (r.Err == nil) != (r.Fields != nil) {
			t.Fatalf("line %d: %v, %v", r.Line, r.Fields, r.Err)
		}
		if next += r.Lines; r.Err == nil {
			good[r.Line] = r
		}
	}
	if rest := strings.Join(lines[next-1:], ""); strings.TrimSpace(rest) != "" {
		t.Fatalf("lost: %q", rest)
	}
	return good
}

// TestDamagedCSV: of a real file in which rows are damaged at random, each other row
// comes through as it was, and each damaged one is there with its line and bytes.
func TestDamagedCSV(t *testing.T) {
	header, intact := sample(t)
	columns := strings.Count(header, ",") + 1
	rapid.Check(t, func(t *rapid.T) {
		rows := slices.Clone(intact[:rapid.IntRange(1, len(intact)).Draw(t, "rows")])
		harmed := map[int]bool{}
		for i := range rows {
			if rapid.IntRange(0, 3).Draw(t, "harmed") == 0 {
				rows[i], harmed[i+2] = harm(t, rows[i]), true
			}
		}
		text := header + "\n" + strings.Join(rows, rapid.SampledFrom([]string{"\n", "\r\n"}).Draw(t, "end"))
		got := readAll(t, text, input.Options{Format: input.CSV})
		good := tally(t, text, 1, got)
		inside := insideRows(t, got)
		for i, row := range rows {
			r, ok := good[i+2]
			if harmed[i+2] || inside[i+2] {
				continue
			}
			if !ok || r.Lines != 1 || len(r.Fields) != columns {
				t.Fatalf("line %d, %q, is lost: %+v", i+2, row, r)
			}
			for j, cell := range strings.Split(row, ",") {
				if r.Fields[j].Text != cell {
					t.Fatalf("line %d, column %d: %q, want %q", i+2, j+1, r.Fields[j].Text, cell)
				}
			}
		}
	})
}

// insideRows are the lines that rows go over. The standard library reads such a row as
// the same cells.
func insideRows(t *rapid.T, rows []input.Row) map[int]bool {
	out := map[int]bool{}
	for _, r := range rows {
		if r.Err != nil || r.Lines == 1 {
			continue
		}
		cells, err := csv.NewReader(bytes.NewReader(r.Raw)).ReadAll()
		if err != nil || len(cells) != 1 || len(cells[0]) != len(r.Fields) {
			t.Fatalf("line %d: %q is no row: %v", r.Line, r.Raw, err)
		}
		for i, f := range r.Fields {
			if f.Text != cells[0][i] {
				t.Fatalf("line %d, column %d: %q, want %q", r.Line, i+1, f.Text, cells[0][i])
			}
		}
		for n := range r.Lines {
			out[r.Line+n] = true
		}
	}
	return out
}

func readAll(t *rapid.T, text string, o input.Options) (rows []input.Row) {
	r, err := input.Open(strings.NewReader(text), o)
	for err == nil {
		var row input.Row
		if row, err = r.Next(); err == nil {
			rows = append(rows, row)
		}
	}
	if !errors.Is(err, io.EOF) && !errors.Is(err, input.ErrFile) {
		t.Fatal(err)
	}
	return rows
}

// TestDamagedJSON is the same for JSON lines and for an array with an element a line.
func TestDamagedJSON(t *testing.T) {
	_, intact := sample(t)
	rapid.Check(t, func(t *rapid.T) {
		var rows []string
		harmed := map[int]bool{}
		array := rapid.Bool().Draw(t, "array")
		for i, cells := range intact[:rapid.IntRange(1, len(intact)).Draw(t, "rows")] {
			object, err := json.Marshal(map[string]any{"n": strconv.Itoa(i), "cells": strings.Split(cells, ","), "in": map[string]int{"a": i}})
			if err != nil {
				t.Fatal(err)
			}
			row := string(object)
			if rapid.IntRange(0, 3).Draw(t, "harmed") == 0 {
				row, harmed[i] = harm(t, row), true
			}
			rows = append(rows, row)
		}
		o := input.Options{Format: input.NDJSON}
		text := strings.Join(rows, "\n")
		if array {
			o.Format, text = input.JSON, "["+strings.Join(rows, ",\n ")+"\n]"
		}
		got := readAll(t, text, o)
		if !array {
			tally(t, text, 0, got)
		}
		came := map[string]bool{}
		kept := 0
		for _, r := range got {
			n, _ := r.Field("n")
			came[n.Text] = came[n.Text] || r.Err == nil
			kept += len(r.Raw)
		}
		for i, row := range rows {
			if !harmed[i] && !came[strconv.Itoa(i)] {
				t.Fatalf("%q is lost of\n%s", row, text)
			}
		}
		if between := len(rows)*6 + 2; kept < len(text)-between {
			t.Fatalf("of %d bytes %d are there", len(text), kept)
		}
	})
}

// FuzzReader: no file stops the reader, all of its bytes come out, and text that is
// read has no replacement character that was not in the file.
func FuzzReader(f *testing.F) {
	header, rows := sample(f)
	for _, text := range []string{
		header + "\n" + rows[0], "a;b\n\"1\n\n2\";3\n", "sep=|\na|b\n", "[{\"a\":1},\n{\"a\":\"x},\n{\"b\":[1]}]", "{\"a\":1}{\n\"a\":\n2}", "\xff\xfea\x00\n\x00",
		"\xfe\xff\x00a\x00\n\xd8\x00", "a,b\n\xbe\xae,\"", "[[{}],}{,{\"\\ud800\":1}",
	} {
		for _, encoding := range []string{"", "gb18030", "utf-16be"} {
			f.Add([]byte(text), encoding, "")
		}
	}
	f.Fuzz(func(t *testing.T, text []byte, encoding, format string) {
		r, err := input.Open(bytes.NewReader(text), input.Options{Encoding: encoding, Format: format, LinesMax: 5})
		line, kept := 0, 0
		for err == nil {
			var row input.Row
			if row, err = r.Next(); err != nil {
				break
			}
			if row.Line < line || row.Lines < 1 || (row.Err == nil) != (row.Fields != nil) {
				t.Fatalf("%+v behind line %d", row, line)
			}
			line, kept = row.Line, kept+row.Size
			for _, field := range row.Fields {
				if strings.Contains(field.Text, "\ufffd") && r.Encoding() == input.UTF8 && !bytes.Contains(text, []byte("\ufffd")) &&
					!bytes.Contains(bytes.ToLower(text), []byte(`\ufffd`)) {
					t.Fatalf("%q has a replacement character", field.Text)
				}
			}
		}
		if !errors.Is(err, io.EOF) && !errors.Is(err, input.ErrFile) {
			t.Fatal(err)
		}
		if errors.Is(err, io.EOF) && r.Encoding() == input.UTF8 && r.Format() == input.JSON {
			letters := func(b []byte) int {
				return len(bytes.Map(func(c rune) rune {
					if strings.ContainsRune(" \t\r\n,[]\ufeff", c) {
						return -1
					}
					return c
				}, b))
			}
			if n := letters(text); bytes.HasPrefix(text, []byte("{")) && n > kept+3 && bytes.Count(text, []byte("\ufffd")) == 0 && json.Valid(text) {
				t.Fatalf("of %d letters %d bytes are there", n, kept)
			}
		}
	})
}
