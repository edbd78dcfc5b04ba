package catalog

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tiermesh/tiermesh/tiers/input"
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
// JSON from 1. A row that cannot be read takes no other with it, and no text is
// altered; see package input. The error else wraps [ErrFile].
func (c *Catalog) ReadRows(rows *input.Reader, f func(Row, *Problem) error) error {
	if rows.Format() == input.CSV {
		if err := c.checkHeader(rows.Header()); err != nil {
			return err
		}
	}
	for {
		x, err := rows.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrFile, err)
		}
		row, bad := c.rowOf(x, rows.Format())
		if err := f(row, bad); err != nil {
			return err
		}
	}
}

func (c *Catalog) checkHeader(header []string) error {
	for i, name := range header {
		if _, ok := c.Field(name); !ok || slices.Contains(header[:i], name) {
			return fmt.Errorf("%w: column %.64q: want each of %s at most once", ErrFile, name, strings.Join(c.Columns(), ","))
		}
	}
	if !slices.Contains(header, "code") {
		return fmt.Errorf("%w: header %.128q has no column code", ErrFile, strings.Join(header, ","))
	}
	return nil
}

// rowOf makes an entry of a row, or says what is wrong with it.
func (c *Catalog) rowOf(x input.Row, format string) (Row, *Problem) {
	row := Row{Row: x.Number, Fields: Fields{}}
	if format == input.CSV {
		row.Row = x.Line
	}
	bad := func(field, value, want string) (Row, *Problem) {
		return row, &Problem{Row: row.Row, Field: field, Value: value, Want: want}
	}
	switch {
	case x.Err != nil:
		return bad("row", begins(x.Raw), "a row that can be read: "+x.Err.Error())
	case x.Size > rowBytesMax && format != input.CSV:
		return bad("row", begins(x.Raw), fmt.Sprintf("an object of at most %d bytes", rowBytesMax))
	}
	for _, f := range x.Fields {
		if f.JSON == nil {
			row.Fields[f.Name] = bareCell(f.Text)
			continue
		}
		field, _ := c.Field(f.Name)
		s, ok := jsonValue(field.Type, f.JSON)
		if !ok {
			return bad(f.Name, string(f.JSON[:min(len(f.JSON), 64)]), "a text, a number, true or false, or an array of texts where it is a list")
		}
		row.Fields[f.Name] = s
	}
	return row, nil
}

// begins is the beginning of a row, as it came where it is text.
func begins(raw []byte) string {
	end := min(len(raw), 64)
	for end > 0 && end < len(raw) && !utf8.RuneStart(raw[end]) {
		end--
	}
	if text := string(raw[:end]); utf8.ValidString(text) {
		return text
	}
	text := strconv.QuoteToASCII(string(raw[:end])) // JSON has no other bytes than text
	return text[1 : len(text)-1]
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

// numeral matches what a spreadsheet takes for a number and nothing else.
var numeral = regexp.MustCompile(`^[+-][0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)

// formula says that a spreadsheet would carry a cell out, without the quotes that it
// may begin with.
func formula(cell string) bool {
	bare := strings.TrimLeft(cell, "'")
	return bare != "" && strings.ContainsRune("=+-@\t\r\n＝＋－＠", []rune(bare)[0]) && !numeral.MatchString(bare)
}

// guardCell puts a quote before what a spreadsheet would carry out, which shows it as
// the text that it is; bareCell takes it away again.
func guardCell(cell string) string {
	if formula(cell) {
		return "'" + cell
	}
	return cell
}

func bareCell(cell string) string {
	if rest, quoted := strings.CutPrefix(cell, "'"); quoted && formula(rest) {
		return rest
	}
	return cell
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
			cells = append(cells, guardCell(f[name]))
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
