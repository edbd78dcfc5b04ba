package legible

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

const joiner = '\u200d'

// Text returns s as one line that acts on nothing: what the package comment names is
// escaped, line ends and tabs too.
func Text(s string) string {
	if plain(s) {
		return s
	}
	var e escaper
	return string(e.add(nil, []byte(s), false))
}

// plain says that nothing of s needs a closer look.
func plain(s string) bool {
	for i := range len(s) {
		if s[i] < ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// Lines is [Text] of a text that may have lines: each line after the first begins
// with indent, so that none looks like a line of the program's own.
func Lines(s, indent string) string {
	lines := strings.Split(strings.TrimRight(strings.ReplaceAll(s, "\r\n", "\n"), "\n"), "\n")
	for i, l := range lines {
		lines[i] = Text(l)
	}
	return strings.Join(lines, "\n"+indent)
}

// escaper escapes a text that comes in pieces.
type escaper struct {
	before rune // the character before, 0 for none and for an escaped one
}

// add appends data to out, escaped; line ends and tabs are kept if keep.
func (e *escaper) add(out, data []byte, keep bool) []byte {
	for len(data) > 0 {
		r, n := utf8.DecodeRune(data)
		switch {
		case r == utf8.RuneError && n == 1:
			out, e.before = fmt.Appendf(out, `\x%02x`, data[0]), 0
		case keep && (r == '\n' || r == '\t'), e.shown(r):
			out, e.before = append(out, data[:n]...), r
		default:
			out, e.before = escape(out, r), 0
		}
		data = data[n:]
	}
	return out
}

// shown says that a character may be shown as it is, behind the one before.
func (e *escaper) shown(r rune) bool {
	switch {
	case r < ' ' || r == 0x7f:
		return false
	case r < 0x7f:
		return true
	case r == joiner:
		return unicode.In(e.before, unicode.So, unicode.Sk, unicode.Variation_Selector)
	case unicode.Is(unicode.Variation_Selector, r):
		return unicode.IsGraphic(e.before) && !unicode.IsSpace(e.before) && !unicode.Is(unicode.Variation_Selector, e.before)
	}
	return !unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Other_Default_Ignorable_Code_Point)
}

func escape(out []byte, r rune) []byte {
	switch {
	case r == '\n':
		return append(out, `\n`...)
	case r == '\r':
		return append(out, `\r`...)
	case r == '\t':
		return append(out, `\t`...)
	case r < ' ':
		return fmt.Appendf(out, `\x%02x`, r)
	case r > 0xffff:
		high, low := utf16.EncodeRune(r)
		return fmt.Appendf(out, `\u%04x\u%04x`, high, low)
	}
	return fmt.Appendf(out, `\u%04x`, r)
}

// Writer guards a text output: what is written shows as [Text] would, but line ends
// and tabs are kept. A character that is written in parts is put together; Close
// writes what is left of one.
type Writer struct {
	to io.Writer

	mu   sync.Mutex // guards what follows
	e    escaper
	rest []byte // the beginning of a character
}

// NewWriter returns a writer that guards to.
func NewWriter(to io.Writer) *Writer { return &Writer{to: to} }

// Unwrap returns the writer under it, for data that is no text.
func (w *Writer) Unwrap() io.Writer { return w.to }

// Write implements [io.Writer].
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.rest) == 0 && plainLines(p) {
		if len(p) > 0 {
			w.e.before = rune(p[len(p)-1])
		}
		return w.to.Write(p)
	}
	data := slices.Concat(w.rest, p)
	whole := len(data)
	for i := 1; i < utf8.UTFMax && i <= len(data); i++ {
		if tail := data[len(data)-i:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				whole -= i
			}
			break
		}
	}
	out := w.e.add(nil, data[:whole], true)
	w.rest = append([]byte(nil), data[whole:]...)
	if _, err := w.to.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// plainLines says that bytes are ASCII text in lines.
func plainLines(p []byte) bool {
	for _, c := range p {
		if c < ' ' && c != '\n' && c != '\t' || c >= 0x7f {
			return false
		}
	}
	return true
}

// Close writes what is left of a character that was never whole. It does not close
// the writer under it.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.rest) == 0 {
		return nil
	}
	out := w.e.add(nil, w.rest, true)
	w.rest = nil
	_, err := w.to.Write(out)
	return err
}
