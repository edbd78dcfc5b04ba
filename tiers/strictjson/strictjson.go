package strictjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

var (
	// ErrText reports a text that is no UTF-8, or half of a surrogate pair.
	ErrText = errors.New("strictjson: not text")
	// ErrTwice reports a name that comes twice in one object.
	ErrTwice = errors.New("strictjson: name twice")
	// ErrSyntax reports what is no JSON.
	ErrSyntax = errors.New("strictjson: no JSON")
)

// Error says what is wrong with a text, in words for the person who wrote it.
type Error struct {
	// Name is what comes twice; empty for other errors.
	Name string

	kind error
	text string
}

// Error implements error.
func (e *Error) Error() string { return e.text }

// Unwrap returns the sentinel.
func (e *Error) Unwrap() error { return e.kind }

func wrong(kind error, format string, args ...any) *Error {
	return &Error{kind: kind, text: fmt.Sprintf(format, args...)}
}

// UTF8 checks that a text is UTF-8; the error, an [*Error] of [ErrText], says where it
// is not.
func UTF8(text []byte) error {
	if utf8.Valid(text) {
		return nil
	}
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && size == 1 {
			return wrong(ErrText, "not UTF-8: byte 0x%02x at %d", text[i], i+1)
		}
		i += size
	}
	return nil
}

// Check looks for what encoding/json would alter: the error, an [*Error], wraps
// [ErrText] or [ErrTwice]. Names that differ in the case of their letters are the same
// to it, as they are to encoding/json. A text that is no JSON may pass: a decoder says
// so better.
func Check(text []byte) error { return check(text, bytes.EqualFold) }

// check is Check for names of which same says that they are one.
func check(text []byte, same func(a, b []byte) bool) error {
	if err := UTF8(text); err != nil {
		return err
	}
	var roomNames [32][]byte
	var roomOpen [16]int
	// Of each object that is open, where its names begin; -1 for an array.
	names, open := roomNames[:0], roomOpen[:0]
	name := false // the next string is a name
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			end := stringEnd(text, i)
			if err := surrogates(text[i:end], i); err != nil {
				return err
			}
			if name {
				begin := open[len(open)-1]
				var err error
				if names, err = enter(names, begin, unquoted(text[i:end]), same); err != nil {
					return err
				}
				name = false
			}
			i = end - 1
		case '{':
			open, name = append(open, len(names)), true
		case '[':
			open, name = append(open, -1), false
		case '}', ']':
			if last := len(open) - 1; last >= 0 {
				if open[last] >= 0 {
					names = names[:open[last]]
				}
				open = open[:last]
			}
			name = false
		case ',':
			name = len(open) > 0 && open[len(open)-1] >= 0
		}
	}
	return nil
}

// Field is a field of an object.
type Field struct {
	Name  string
	Value json.RawMessage
}

// Fields splits an object into its fields, in their order; their names may differ in
// the case of letters alone. The error is an [*Error].
func Fields(text []byte) ([]Field, error) {
	if err := check(text, bytes.Equal); err != nil {
		return nil, err
	}
	if !json.Valid(text) {
		return nil, syntax(text)
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, wrong(ErrSyntax, "%.40q is no object", text)
	}
	var out []Field
	for dec.More() {
		t, err := dec.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return nil, syntax(text)
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, syntax(text)
		}
		out = append(out, Field{Name: name, Value: value})
	}
	return out, nil
}

// syntax says what is wrong with a text that is no JSON.
func syntax(text []byte) *Error {
	var v any
	err := json.Unmarshal(text, &v)
	var at *json.SyntaxError
	if errors.As(err, &at) {
		return wrong(ErrSyntax, "no JSON at byte %d: %v", at.Offset, err)
	}
	return wrong(ErrSyntax, "no JSON: %v", err)
}

// namesMax is how many names of an object are compared one with another.
const namesMax = 4096

// enter adds a name to those of its object, which begin at a place.
func enter(names [][]byte, begin int, name []byte, same func(a, b []byte) bool) ([][]byte, error) {
	for _, n := range names[begin:] {
		if same(n, name) {
			e := wrong(ErrTwice, "%.40q comes twice in one object", name)
			e.Name = string(name)
			return names, e
		}
	}
	if len(names)-begin == namesMax {
		return names, wrong(ErrTwice, "an object has more than %d names", namesMax)
	}
	return append(names, name), nil
}

// stringEnd returns where a string ends that begins at i.
func stringEnd(text []byte, i int) int {
	for i++; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(text)
}

// unquoted is the value of a string; of one that is none, its bytes.
func unquoted(text []byte) []byte {
	if n := len(text); n > 1 && text[n-1] == '"' && bytes.IndexByte(text, '\\') < 0 {
		return text[1 : n-1]
	}
	var s string
	if json.Unmarshal(text, &s) != nil {
		return text
	}
	return []byte(s)
}

// surrogates checks the escapes of a string that begins at byte at of the text.
func surrogates(text []byte, at int) error {
	if !bytes.Contains(text, []byte(`\u`)) {
		return nil
	}
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' {
			continue
		}
		unit, ok := escaped(text[i:])
		switch {
		case !ok || unit < 0xd800 || unit > 0xdfff:
			i++ // what is escaped is no backslash of its own
		case unit < 0xdc00:
			if low, ok := escaped(text[min(i+6, len(text)):]); ok && low >= 0xdc00 && low <= 0xdfff {
				i += 11
				continue
			}
			fallthrough
		default:
			return wrong(ErrText, `half of a surrogate pair, %s, at byte %d`, text[i:i+6], at+i+1)
		}
	}
	return nil
}

// escaped reads an escape of the form \uXXXX.
func escaped(text []byte) (uint64, bool) {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(text[2:6]), 16, 16)
	return n, err == nil
}
