package input

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/tiermesh/tiermesh/tiers/strictjson"
)

// ErrFile reports a file of which no row can be read: an unknown format or encoding,
// or a header that is none.
var ErrFile = errors.New("input: unreadable file")

// The formats of files.
const (
	CSV    = "csv"
	JSON   = "json"   // an array of objects, or objects one after the other
	NDJSON = "ndjson" // one object a line
)

// FormatOf returns the format that a file's name stands for; empty for none.
func FormatOf(name string) string {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".csv", ".tsv", ".txt":
		return CSV
	case ".json":
		return JSON
	case ".ndjson", ".jsonl":
		return NDJSON
	}
	return ""
}

// Bounds that hold unless others are given.
const (
	rawBytesMax  = 60 << 10
	lineBytesMax = 1 << 20
	linesMax     = 500
	// wholeBytesMax bounds a line of JSON, on which a whole array may stand.
	wholeBytesMax = 64 << 20
)

// Options say how a file is read; the zero value of each is what is usual.
type Options struct {
	// Format is CSV, JSON or NDJSON; empty: JSON where the file begins with { or [.
	Format string
	// Encoding is one of [Encodings]; empty: by the file's mark, or UTF-8.
	Encoding string
	// Delimiter separates the columns of CSV; 0: the one that the header has.
	Delimiter rune
	// RawBytesMax bounds the bytes that are kept of a bad row.
	RawBytesMax int
	// LinesMax bounds how far a quoted field of CSV may go.
	LinesMax int
	// Good says whether fields can be a row; nil if nothing is known of rows. It is asked
	// of lines that a quoted field goes over.
	Good func(Row) bool
}

// Field is a field of a row.
type Field struct {
	// Name is the column's, or the name in the JSON object.
	Name string
	// Text is the cell; of JSON a text, or a number, true or false as it is written; empty
	// for null.
	Text string
	// JSON is the value of a JSON field; nil for CSV.
	JSON json.RawMessage
}

// Row is a row, or a piece of the file that is none.
type Row struct {
	// Number counts rows from 1; the header is none.
	Number int
	// Line is where it begins, from 1; Lines is how many it takes. Of elements that share a
	// line each counts the whole line.
	Line, Lines int
	// Raw are its bytes as they came, without the end of its last line; Size is how many
	// there were, about, more than Raw has when it is cut.
	Raw  []byte
	Size int
	// JSON is the object of a row of JSON, in UTF-8; nil for CSV.
	JSON []byte
	// Fields are in the file's order; nil if Err says what is wrong.
	Fields []Field
	// Err is what is wrong with it, in words for whoever made the file.
	Err error
}

// Field returns a field by its name.
func (r Row) Field(name string) (Field, bool) {
	for _, f := range r.Fields {
		if f.Name == name {
			return f, true
		}
	}
	return Field{}, false
}

// Reader reads rows.
type Reader struct {
	options  Options
	lines    lines
	comma    rune
	header   []string
	rows     int
	elements *elements // of JSON
}

// Open begins to read: of CSV the header. The error wraps [ErrFile].
func Open(in io.Reader, o Options) (*Reader, error) {
	if o.RawBytesMax == 0 {
		o.RawBytesMax = rawBytesMax
	}
	if o.LinesMax == 0 {
		o.LinesMax = linesMax
	}
	b := bufio.NewReaderSize(in, 64<<10)
	if _, err := b.Peek(4); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: %w", ErrFile, err)
	}
	head, _ := b.Peek(b.Buffered()) // no more, since the rest may take its time
	e, mark, err := encodingOf(o.Encoding, head)
	if err != nil {
		return nil, err
	}
	_, _ = b.Discard(mark)
	if o.Format == "" {
		o.Format = formatOf(e, head[mark:])
	}
	r := &Reader{options: o, lines: lines{in: b, encoding: e, bytesMax: lineBytesMax}}
	switch o.Format {
	case CSV:
		return r, r.readHeader()
	case JSON:
		r.lines.bytesMax = wholeBytesMax
		r.elements = &elements{lines: &r.lines}
		return r, nil
	case NDJSON:
		return r, nil
	}
	return nil, fmt.Errorf("%w: format %.32q: want %s, %s or %s", ErrFile, o.Format, CSV, JSON, NDJSON)
}

// formatOf tells JSON from CSV by the first character: an array, or objects.
func formatOf(e encoding, head []byte) string {
	for len(head) > 0 {
		c := rune(head[0])
		head = head[1:]
		if e.wide != nil {
			if len(head) == 0 {
				break
			}
			c = rune(e.wide.Uint16([]byte{byte(c), head[0]}))
			head = head[1:]
		}
		switch c {
		case ' ', '\t', '\r', '\n':
		case '[', '{':
			return JSON
		default:
			return CSV
		}
	}
	return CSV
}

// Encoding returns the name of the file's encoding.
func (r *Reader) Encoding() string { return r.lines.encoding.name }

// Format returns the file's format.
func (r *Reader) Format() string { return r.options.Format }

// Header returns the columns of CSV.
func (r *Reader) Header() []string { return r.header }

// Next returns the next row. At the end the error is io.EOF; one that wraps [ErrFile]
// says that the file broke off.
func (r *Reader) Next() (Row, error) {
	var row Row
	var err error
	switch r.options.Format {
	case CSV:
		row, err = r.nextCSV()
	case NDJSON:
		row, err = r.nextLine()
	default:
		row, err = r.elements.next()
	}
	if err != nil {
		return Row{}, err
	}
	r.rows++
	if row.Number = r.rows; row.Size <= r.lines.bytesMax { // all of it is in Raw
		row.Size = len(row.Raw)
	}
	if len(row.Raw) > r.options.RawBytesMax {
		row.Raw = row.Raw[:r.options.RawBytesMax]
	}
	return row, nil
}

// nextLine reads a line of JSON.
func (r *Reader) nextLine() (Row, error) {
	for {
		l, err := r.lines.at(0)
		if err != nil {
			return Row{}, err
		}
		r.lines.take(1)
		if l.err == nil && strings.TrimSpace(l.text) == "" {
			continue
		}
		row := Row{Line: l.n, Lines: 1, Raw: trimEnd(r.lines.encoding, l.raw), Size: l.size, Err: l.err}
		if row.Err == nil {
			row.JSON = []byte(strings.TrimSpace(l.text))
			row.Fields, row.Err = objectFields(row.JSON)
		}
		return row, nil
	}
}

// trimEnd is a line without its end.
func trimEnd(e encoding, raw []byte) []byte { return (&lines{encoding: e}).content(raw) }

// objectFields splits a JSON object.
func objectFields(text []byte) ([]Field, error) {
	fields, err := strictjson.Fields(text)
	if err != nil {
		return nil, err
	}
	out := make([]Field, len(fields))
	for i, f := range fields {
		out[i] = Field{Name: f.Name, JSON: f.Value, Text: scalar(f.Value)}
	}
	return out, nil
}

// scalar is the text of a value.
func scalar(v json.RawMessage) string {
	var s string
	if json.Unmarshal(v, &s) == nil { // null leaves it empty
		return s
	}
	return string(v)
}
