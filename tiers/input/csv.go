package input

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// delimiters are those that are looked for.
var delimiters = []rune{',', ';', '\t', '|'}

// readHeader reads the header and finds the delimiter.
func (r *Reader) readHeader() error {
	first, err := r.headerLine()
	if err != nil {
		return err
	}
	if hint, ok := strings.CutPrefix(strings.ToLower(first.text), "sep="); ok && utf8.RuneCountInString(hint) == 1 { // as Excel writes it
		if r.options.Delimiter == 0 {
			r.options.Delimiter, _ = utf8.DecodeRuneInString(hint)
		}
		if first, err = r.headerLine(); err != nil {
			return err
		}
	}
	header := r.wholeHeader(first.text)
	if r.comma = r.options.Delimiter; r.comma == 0 {
		if r.comma, err = r.delimiter(header); err != nil {
			return err
		}
	}
	cells, open, err := r.cells(nil, header)
	if err != nil || open {
		return fmt.Errorf("%w: header, line %d: %w", ErrFile, first.n, errors.Join(err, map[bool]error{true: errOpen}[open]))
	}
	for i, name := range cells {
		if cells[i] = strings.TrimSpace(name); cells[i] == "" {
			cells[i] = fmt.Sprintf("column %d", i+1)
		}
		if at := slices.Index(cells[:i], cells[i]); at >= 0 {
			return fmt.Errorf("%w: columns %d and %d are both %.40q", ErrFile, at+1, i+1, cells[i])
		}
	}
	r.header = cells
	return nil
}

// headerLine takes the first line that has something in it.
func (r *Reader) headerLine() (line, error) {
	for {
		l, err := r.lines.at(0)
		switch {
		case errors.Is(err, io.EOF):
			return l, fmt.Errorf("%w: no header", ErrFile)
		case err != nil:
			return l, err
		case l.err != nil:
			return l, fmt.Errorf("%w: header, line %d: %w", ErrFile, l.n, l.err)
		case strings.ContainsAny(l.text, "\x00"):
			return l, fmt.Errorf("%w: header, line %d: it has zero bytes: this is no CSV, or --encoding utf-16", ErrFile, l.n)
		case strings.Contains(l.text, "\r"):
			return l, fmt.Errorf("%w: its lines end with CR alone: want LF or CR LF", ErrFile)
		}
		r.lines.take(1)
		if strings.TrimSpace(l.text) != "" {
			return l, nil
		}
	}
}

// wholeHeader is the header that begins with a line: a name in quotes may go over
// lines. One whose quotes do not end is that line alone.
func (r *Reader) wholeHeader(first string) string {
	text := first
	for n := range r.options.LinesMax {
		if strings.Count(text, `"`)%2 == 0 {
			r.lines.take(n)
			return text
		}
		l, err := r.lines.at(n)
		if err != nil || l.err != nil || len(text)+l.size > lineBytesMax {
			break
		}
		text += "\n" + l.text
	}
	return first
}

// delimiter is the one that the header has. Where it has several, it is the one that
// the next line has as often.
func (r *Reader) delimiter(header string) (rune, error) {
	var found []rune
	for _, d := range delimiters {
		if count(header, d) > 0 {
			found = append(found, d)
		}
	}
	switch len(found) {
	case 0:
		return ',', nil
	case 1:
		return found[0], nil
	}
	if next, err := r.lines.at(0); err == nil && next.err == nil {
		same := slices.DeleteFunc(slices.Clone(found), func(d rune) bool { return count(header, d) != count(next.text, d) })
		if len(same) == 1 {
			return same[0], nil
		}
	}
	return 0, fmt.Errorf("%w: header %.80q: its delimiter is one of %q: name it with --delimiter", ErrFile, header, string(found))
}

// count counts delimiters outside quotes.
func count(text string, d rune) (n int) {
	quoted := false
	for _, c := range text {
		switch {
		case c == '"':
			quoted = !quoted
		case c == d && !quoted:
			n++
		}
	}
	return n
}

var (
	errOpen = errors.New("a quote is opened and not closed")
	errBare = errors.New("a quote inside a field that has none around it")
	errTail = errors.New("text behind a closing quote")
	errZero = errors.New("a zero byte")
)

// cells reads a line's cells. With some before, the last of them is a quoted one that
// goes on; open says that the last one does.
func (r *Reader) cells(before []string, text string) (cells []string, open bool, err error) {
	if strings.ContainsRune(text, 0) {
		return nil, false, errZero
	}
	cells, quoted := before, before != nil
	if !quoted {
		cells = append(cells, "")
	}
	for {
		last := &cells[len(cells)-1]
		if !quoted && strings.HasPrefix(text, `"`) {
			quoted, text = true, text[1:]
		}
		if quoted {
			part, rest, closed := cutQuoted(text)
			if *last += part; !closed {
				return cells, true, nil
			}
			if text = rest; text != "" && !strings.HasPrefix(text, string(r.comma)) {
				return nil, false, errTail
			}
			quoted = false
		} else {
			end := strings.IndexRune(text, r.comma)
			if end < 0 {
				end = len(text)
			}
			if *last, text = text[:end], text[end:]; strings.Contains(*last, `"`) {
				return nil, false, errBare
			}
		}
		if text == "" {
			return cells, false, nil
		}
		text = text[utf8.RuneLen(r.comma):]
		cells = append(cells, "")
	}
}

// cutQuoted reads up to the closing quote; two quotes are one.
func cutQuoted(text string) (part, rest string, closed bool) {
	var b strings.Builder
	for {
		end := strings.IndexByte(text, '"')
		if end < 0 {
			b.WriteString(text)
			return b.String(), "", false
		}
		b.WriteString(text[:end])
		if text = text[end+1:]; !strings.HasPrefix(text, `"`) {
			return b.String(), text, true
		}
		b.WriteByte('"')
		text = text[1:]
	}
}

// nextCSV reads a row.
func (r *Reader) nextCSV() (Row, error) {
	for {
		l, err := r.lines.at(0)
		if err != nil {
			return Row{}, err
		}
		if l.err == nil && r.isBlank(l.text) {
			r.lines.take(1)
			continue
		}
		row, n := r.rowFrom(l)
		r.lines.take(n)
		return row, nil
	}
}

// rowFrom reads the row that begins with the next line, and says how many it takes.
func (r *Reader) rowFrom(first line) (Row, int) {
	row := Row{Line: first.n, Lines: 1, Raw: trimEnd(r.lines.encoding, first.raw), Size: first.size}
	if first.err != nil {
		row.Err = first.err
		return row, 1
	}
	cells, open, err := r.cells(nil, first.text)
	if open {
		if over, n := r.over(row, cells, first); n > 0 {
			return over, n
		}
		err = errOpen
	}
	if err == nil && len(cells) != len(r.header) {
		err = fmt.Errorf("%d columns: want %d, as the header has", len(cells), len(r.header))
	}
	if row.Err = err; err == nil {
		row.Fields = r.fields(cells)
	}
	return row, 1
}

func (r *Reader) fields(cells []string) []Field {
	out := make([]Field, len(cells))
	for i, c := range cells {
		out[i] = Field{Name: r.header[i], Text: c}
	}
	return out
}

// over reads a row whose quoted field goes over lines, and how many; 0 if it does not
// end, or damaged rows seem to have made it: it goes over rows, and none follows.
func (r *Reader) over(row Row, cells []string, first line) (Row, int) {
	own, rows := r.isOwn(first.text), false
	size := first.size
	for n := 1; n < r.options.LinesMax; n++ {
		l, err := r.lines.at(n)
		if err != nil || l.err != nil || size+l.size > lineBytesMax {
			return row, 0
		}
		size += l.size
		cells[len(cells)-1] += "\n"
		var open bool
		if cells, open, err = r.cells(cells, l.text); err != nil || len(cells) > len(r.header) {
			return row, 0
		}
		own = own && r.isOwn(l.text)
		if open {
			rows = rows || r.isGood(l.text)
			continue
		}
		if len(cells) != len(r.header) || (own || rows) && !r.begins(n+1) {
			return row, 0
		}
		row.Lines, row.Fields, row.Size = n+1, r.fields(cells), size
		row.Raw = slices.Clone(first.raw)
		for i := 1; i <= n; i++ {
			l, _ := r.lines.at(i) // it was there just now
			row.Raw = append(row.Raw, l.raw...)
		}
		row.Raw = trimEnd(r.lines.encoding, row.Raw)
		return row, n + 1
	}
	return row, 0
}

// begins reports whether a row begins behind so many lines, or the file ends.
func (r *Reader) begins(n int) bool {
	for ; n < r.options.LinesMax; n++ {
		l, err := r.lines.at(n)
		if err != nil || l.err != nil {
			return errors.Is(err, io.EOF)
		}
		if !r.isBlank(l.text) {
			cells, open, err := r.cells(nil, l.text)
			return err == nil && (len(cells) == len(r.header) || open && len(cells) < len(r.header))
		}
	}
	return true
}

// isBlank reports whether a line between rows is none. A row of one column may be of
// spaces alone.
func (r *Reader) isBlank(text string) bool {
	return text == "" || len(r.header) > 1 && strings.TrimSpace(text) == ""
}

// isOwn reports whether a line alone has all columns, whatever its quotes mean.
func (r *Reader) isOwn(text string) bool {
	return len(r.header) > 1 && strings.Count(text, string(r.comma))+1 == len(r.header)
}

// isGood reports whether a line alone is a row.
func (r *Reader) isGood(text string) bool {
	cells, open, err := r.cells(nil, text)
	if err != nil || open || len(cells) != len(r.header) || len(cells) < 2 {
		return false
	}
	if r.options.Good == nil {
		return len(cells) >= 4
	}
	return r.options.Good(Row{Fields: r.fields(cells)})
}
