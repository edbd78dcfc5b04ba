package input

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// elements reads the elements of a JSON array, or values one after the other.
type elements struct {
	lines *lines
	at    line   // the line that is read
	all   string // what it says, with its end
	text  string // what is left of that
	open  int    // arrays that were opened and not closed
}

var (
	errString   = errors.New("no JSON: a text is not closed on its line")
	errBrackets = errors.New("no JSON: brackets do not match")
	errEndless  = errors.New("no JSON: it does not end")
)

// textOf is what a line says, with its end. In UTF-8 bytes that are none cost the
// element that they are in alone; ok is false where they cost the line.
func (e *elements) textOf(l line) (text string, ok bool) {
	if l.size == len(l.raw) && e.lines.encoding.name == UTF8 {
		return string(l.raw), true
	}
	return l.text + "\n", l.err == nil
}

// next returns the next element.
func (e *elements) next() (Row, error) {
	for {
		e.between()
		if e.text != "" {
			return e.element(), nil
		}
		l, err := e.lines.at(0)
		if errors.Is(err, io.EOF) && e.open > 0 {
			e.open = 0
			return Row{}, fmt.Errorf("%w: the array does not end: the file may be cut off", ErrFile)
		}
		if err != nil {
			return Row{}, err
		}
		e.lines.take(1)
		text, ok := e.textOf(l)
		if !ok {
			return Row{Line: l.n, Lines: 1, Raw: trimEnd(e.lines.encoding, l.raw), Size: l.size, Err: l.err}, nil
		}
		e.at, e.all, e.text = l, text, text
	}
}

// between passes over what stands between elements.
func (e *elements) between() {
	for e.text != "" && strings.IndexByte(" \t\r\n,[]", e.text[0]) >= 0 {
		switch e.text[0] {
		case '[':
			e.open++
		case ']':
			e.open = max(0, e.open-1)
		}
		e.text = e.text[1:]
	}
}

// element reads an element, or the piece of one that is broken.
func (e *elements) element() Row {
	row := Row{Line: e.at.n, Lines: 1}
	var s scan
	var b strings.Builder
	text, used := e.text, 0
	end, more := s.feed(text)
	for more {
		b.WriteString(text)
		l, err := e.lines.at(used)
		ok := err == nil && b.Len()+l.size <= lineBytesMax
		if ok {
			text, ok = e.textOf(l)
		}
		if !ok {
			s.err = errEndless
			break
		}
		used++
		end, more = s.feed(text)
	}
	if s.err != nil {
		row.Err = s.err
		return e.broken(row, -1)
	}
	b.WriteString(text[:end])
	row.JSON = []byte(b.String())
	row.Fields, row.Err = objectFields(row.JSON)
	switch {
	case row.Err != nil && e.text[0] != '{' && !ends(text[end:]):
		return e.broken(row, -1) // what is this?
	case row.Err != nil && used > 0:
		return e.broken(row, used)
	}
	row.Raw, row.Size = row.JSON, b.Len()
	if row.Lines += used; used > 0 {
		e.at, _ = e.lines.at(used - 1)
		e.all = text
		e.lines.take(used)
	}
	e.text = text[end:]
	return row
}

// ends reports whether what is left of a line can follow a value.
func ends(rest string) bool {
	rest = strings.TrimLeft(rest, " \t\r\n")
	return rest == "" || rest[0] == ',' || rest[0] == ']'
}

// broken takes the piece that an element costs that cannot be read: as far as the next
// one seems to begin. One whose brackets match goes over so many lines more at most;
// others are given -1.
func (e *elements) broken(row Row, most int) Row {
	column := len(e.all) - len(e.text)
	if i := boundary(e.text); i >= 0 && most < 0 {
		row.Raw, row.Size, e.text = []byte(e.text[:i]), i, e.text[i:]
		return row
	}
	piece, rest := []byte(e.text), ""
	n := 0
	for n != most && n < linesMax {
		l, err := e.lines.at(n)
		if err != nil {
			break
		}
		text, ok := e.textOf(l)
		if !ok {
			break
		}
		cut := begins(text, column)
		if cut < 0 {
			piece = append(piece, text...)
			n++
			continue
		}
		if cut > 0 {
			piece = append(piece, text[:cut]...)
			e.at, e.all, rest = l, text, text[cut:]
			n++
		}
		break
	}
	e.lines.take(n)
	e.text = rest
	if bytes.HasSuffix(bytes.TrimSpace(piece), []byte("]")) { // the array's, perhaps
		e.open = max(0, e.open-1)
	}
	row.Raw, row.Size = bytes.TrimRight(piece, "\r\n"), len(piece)
	row.Lines += n
	return row
}

// boundary finds the end of an object that another one follows; -1 for none.
func boundary(text string) int {
	for i := range len(text) {
		if text[i] != '}' {
			continue
		}
		rest := strings.TrimLeft(text[i+1:], " \t")
		if rest, ok := strings.CutPrefix(rest, ","); ok && strings.HasPrefix(strings.TrimLeft(rest, " \t"), "{") {
			return i + 1
		}
	}
	return -1
}

// begins reports where an element seems to begin on a line, no further in than a
// column: 0 for its beginning, -1 for none. The array's end is one, too.
func begins(text string, column int) int {
	trimmed := strings.TrimLeft(text, " \t")
	if strings.HasPrefix(trimmed, "}") {
		if i := boundary(text); i == len(text)-len(trimmed)+1 {
			return i
		}
		return -1
	}
	trimmed = strings.TrimLeft(strings.TrimPrefix(trimmed, ","), " \t")
	if trimmed != "" && (trimmed[0] == '{' || trimmed[0] == ']') && len(text)-len(trimmed) <= column {
		return 0
	}
	return -1
}

// scan finds the end of a JSON value, by its quotes and brackets.
type scan struct {
	open   []byte
	quoted bool
	err    error
}

// feed reads on; it returns where the value ends, or that it goes on.
func (s *scan) feed(text string) (end int, more bool) {
	for i := 0; i < len(text); i++ {
		c := text[i]
		switch {
		case s.quoted && c == '\\' && i+1 < len(text) && text[i+1] >= ' ':
			i++
		case s.quoted && (c == '\n' || c == '\r'):
			s.err = errString
			return i, false
		case c == '"':
			if s.quoted = !s.quoted; !s.quoted && len(s.open) == 0 {
				return i + 1, false
			}
		case s.quoted:
		case c == '{' || c == '[':
			s.open = append(s.open, c)
		case c == '}' || c == ']':
			last := len(s.open) - 1
			if last < 0 || s.open[last]+2 != c { // as ASCII has them
				s.err = errBrackets
				return i, false
			}
			if s.open = s.open[:last]; last == 0 {
				return i + 1, false
			}
		case len(s.open) == 0:
			if n := strings.IndexAny(text[i+1:], " \t\r\n,[]{}\""); n >= 0 {
				return i + 1 + n, false
			}
			return len(text), false
		}
	}
	return len(text), true
}
