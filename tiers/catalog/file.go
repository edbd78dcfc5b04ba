package catalog

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// ErrFile reports a file of which nothing can be read: an unknown format, a header
// that names no field, or JSON that is no array.
var ErrFile = errors.New("catalog: unreadable file")

// The formats of files.
const (
	CSV  = "csv"
	JSON = "json"
)

// rowBytesMax bounds what is read of one row.
const rowBytesMax = 256 << 10

// ReadRows calls f with each row of a file, or with what is wrong with it, until f
// returns an error, which it returns. Rows of CSV are numbered by their line, of
// JSON from 1. A byte order mark in front is let be. The error else wraps
// [ErrFile].
func (c *Catalog) ReadRows(in io.Reader, format string, f func(Row, *Problem) error) error {
	r := bufio.NewReader(in)
	if mark, _ := r.Peek(3); bytes.Equal(mark, []byte("\xef\xbb\xbf")) {
		_, _ = r.Discard(3)
	}
	switch format {
	case CSV:
		return c.readCSV(r, f)
	case JSON:
		return c.readJSON(r, f)
	}
	return fmt.Errorf("%w: format %.32q: want %s or %s", ErrFile, format, CSV, JSON)
}

func (c *Catalog) readCSV(in io.Reader, f func(Row, *Problem) error) error {
	rows := csv.NewReader(in)
	rows.FieldsPerRecord = -1
	header, err := rows.Read()
	if err != nil {
		return fmt.Errorf("%w: header: want some of %s: %w", ErrFile, strings.Join(c.Columns(), ","), err)
	}
	for i, name := range header {
		header[i] = strings.TrimSpace(name)
		if _, ok := c.Field(header[i]); !ok || slices.Contains(header[:i], header[i]) {
			return fmt.Errorf("%w: column %.64q: want each of %s at most once", ErrFile, name, strings.Join(c.Columns(), ","))
		}
	}
	if !slices.Contains(header, "code") {
		return fmt.Errorf("%w: header %.128q has no column code", ErrFile, strings.Join(header, ","))
	}
	for {
		cells, err := rows.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		row, bad, err := csvRow(rows, header, cells, err)
		if err != nil {
			return err
		}
		if err := f(row, bad); err != nil {
			return err
		}
	}
}

func csvRow(rows *csv.Reader, header, cells []string, err error) (Row, *Problem, error) {
	var parse *csv.ParseError
	if errors.As(err, &parse) {
		return Row{Row: parse.StartLine}, &Problem{Row: parse.StartLine, Field: "row", Want: "CSV: " + parse.Err.Error()}, nil
	}
	if err != nil {
		return Row{}, nil, fmt.Errorf("%w: %w", ErrFile, err)
	}
	line, _ := rows.FieldPos(0)
	row := Row{Row: line, Fields: Fields{}}
	if len(cells) != len(header) {
		return row, &Problem{Row: line, Code: cells[0], Field: "row", Value: strconv.Itoa(len(cells)) + " cells", Want: strconv.Itoa(len(header)) + " cells, as the header has"}, nil
	}
	for i, v := range cells {
		row.Fields[header[i]] = v
	}
	return row, nil, nil
}

// readJSON reads an array of objects, or objects one after the other.
func (c *Catalog) readJSON(in *bufio.Reader, f func(Row, *Problem) error) error {
	dec := json.NewDecoder(in)
	dec.UseNumber()
	array, err := opensArray(in)
	if err != nil {
		return err
	}
	if array {
		if _, err := dec.Token(); err != nil {
			return fmt.Errorf("%w: %w", ErrFile, err)
		}
	}
	for n := 1; ; n++ {
		if array && !dec.More() {
			if _, err := dec.Token(); err != nil {
				return fmt.Errorf("%w: entry %d: %w", ErrFile, n, err)
			}
			return nil
		}
		var raw json.RawMessage
		err := dec.Decode(&raw)
		if errors.Is(err, io.EOF) && !array {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: entry %d: %w", ErrFile, n, err)
		}
		row, bad := c.jsonRow(n, raw)
		if err := f(row, bad); err != nil {
			return err
		}
	}
}

// opensArray looks whether an array begins, behind white space.
func opensArray(in *bufio.Reader) (bool, error) {
	for {
		b, err := in.Peek(1)
		if err != nil {
			return false, fmt.Errorf("%w: no entry in it", ErrFile)
		}
		if !bytes.ContainsAny(b, " \t\r\n") {
			return b[0] == '[', nil
		}
		_, _ = in.Discard(1)
	}
}

func (c *Catalog) jsonRow(n int, raw json.RawMessage) (Row, *Problem) {
	row := Row{Row: n, Fields: Fields{}}
	var object map[string]json.RawMessage
	if len(raw) > rowBytesMax || json.Unmarshal(raw, &object) != nil || object == nil {
		return row, &Problem{Row: n, Field: "row", Value: string(raw[:min(len(raw), 64)]), Want: fmt.Sprintf("an object of at most %d bytes", rowBytesMax)}
	}
	for name, v := range object {
		field, _ := c.Field(name)
		s, ok := jsonValue(field.Type, v)
		if !ok {
			return row, &Problem{Row: n, Field: name, Value: string(v[:min(len(v), 64)]), Want: "a text, a number, true or false, or an array of texts where it is a list"}
		}
		row.Fields[name] = s
	}
	return row, nil
}

// jsonValue turns a JSON value into the text of a field.
func jsonValue(t Type, raw json.RawMessage) (string, bool) {
	var s string
	switch raw[0] {
	case '"':
		return s, json.Unmarshal(raw, &s) == nil
	case '[':
		var words []json.RawMessage
		if t != List {
			return string(raw), t == Nested
		}
		if json.Unmarshal(raw, &words) != nil {
			return "", false
		}
		for _, w := range words {
			word, ok := jsonValue(Text, w)
			if !ok || word == "" || strings.ContainsAny(word, " \t\r\n\v\f\u0085\u00a0") {
				return "", false
			}
			s += " " + word
		}
		return strings.TrimSpace(s), true
	case '{':
		return string(raw), t == Nested
	case 'n':
		return "", true
	default: // a number, true or false
		return string(raw), true
	}
}

// RowWriter writes entries to a file; an import of it changes nothing.
type RowWriter struct {
	c     *Catalog
	csv   *csv.Writer
	out   io.Writer
	wrote int
}

// NewRowWriter begins a file. The error wraps [ErrFile] for an unknown format.
func (c *Catalog) NewRowWriter(out io.Writer, format string) (*RowWriter, error) {
	w := &RowWriter{c: c, out: out}
	switch format {
	case CSV:
		w.csv = csv.NewWriter(out)
		return w, w.csv.Write(c.Columns())
	case JSON:
		_, err := io.WriteString(out, "[")
		return w, err
	}
	return nil, fmt.Errorf("%w: format %.32q: want %s or %s", ErrFile, format, CSV, JSON)
}

// Write writes one entry. Of JSON, empty fields are left out.
func (w *RowWriter) Write(f Fields) error {
	w.wrote++
	if w.csv != nil {
		var cells []string
		for _, name := range w.c.Columns() {
			cells = append(cells, f[name])
		}
		return w.csv.Write(cells)
	}
	object := map[string]any{}
	for _, field := range w.c.Fields {
		v := f[field.Name]
		switch {
		case v == "":
		case field.Type == List:
			object[field.Name] = strings.Fields(v)
		case field.Type == Nested && json.Valid([]byte(v)):
			object[field.Name] = json.RawMessage(v)
		case field.Type == Int, field.Type == Number, field.Type == Bool:
			object[field.Name] = json.RawMessage(v)
			if !json.Valid([]byte(v)) { // somebody wrote it past the checks
				object[field.Name] = v
			}
		default:
			object[field.Name] = v
		}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(object); err != nil {
		return fmt.Errorf("write entry %.64q: %w", f["code"], err)
	}
	comma := ",\n"
	if w.wrote == 1 {
		comma = "\n"
	}
	_, err := io.WriteString(w.out, comma+strings.TrimSpace(b.String()))
	return err
}

// Close ends the file; it does not close what it was written to.
func (w *RowWriter) Close() error {
	if w.csv != nil {
		w.csv.Flush()
		return w.csv.Error()
	}
	_, err := io.WriteString(w.out, "\n]\n")
	return err
}
