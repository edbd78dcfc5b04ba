package input

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// line is a physical line.
type line struct {
	n int // from 1
	// raw are its bytes with the line's end, of a long one the first.
	raw []byte
	// size is how many bytes it has.
	size int
	// text is what it says, without the line's end, unless err says what is wrong.
	text string
	err  error
}

// lines reads physical lines, ahead as far as it is asked to.
type lines struct {
	in       *bufio.Reader
	encoding encoding
	bytesMax int
	n        int
	ahead    []line
	err      error // io.EOF, or what ended the file
}

// at returns the line behind so many others that were not taken. The error is io.EOF
// or wraps [ErrFile].
func (l *lines) at(i int) (line, error) {
	for len(l.ahead) <= i {
		if l.err != nil {
			return line{}, l.err
		}
		raw, size, err := l.read()
		if err != nil {
			l.err = err
			if !errors.Is(err, io.EOF) {
				l.err = fmt.Errorf("%w: line %d: %w", ErrFile, l.n+1, err)
			}
			if size == 0 {
				continue
			}
		}
		l.n++
		one := line{n: l.n, raw: raw, size: size}
		if size > len(raw) {
			one.err = fmt.Errorf("a line of %d bytes: want at most %d", size, l.bytesMax)
		} else {
			one.text, one.err = l.encoding.decode(l.content(raw))
		}
		l.ahead = append(l.ahead, one)
	}
	return l.ahead[i], nil
}

// take takes the next lines.
func (l *lines) take(n int) { l.ahead = l.ahead[n:] }

// read reads a line with its end.
func (l *lines) read() (raw []byte, size int, err error) {
	for {
		part, err := l.in.ReadSlice('\n')
		size += len(part)
		raw = append(raw, part[:min(len(part), max(0, l.bytesMax-len(raw)))]...)
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil || l.encoding.wide == nil {
			return raw, size, err
		}
		if l.encoding.name == UTF16LE { // the other byte of the newline follows
			if size%2 == 0 {
				continue // it is the second byte of another character
			}
			b, err := l.in.ReadByte()
			if err != nil {
				return raw, size, err
			}
			size++
			if len(raw) < l.bytesMax {
				raw = append(raw, b)
			}
			if b != 0 {
				continue
			}
			return raw, size, nil
		}
		if size%2 == 0 && (len(raw) < size || raw[size-2] == 0) {
			return raw, size, nil
		}
	}
}

// content is a line without its end.
func (l *lines) content(raw []byte) []byte {
	for _, c := range []byte("\n\r") {
		end := []byte{c}
		if l.encoding.wide != nil {
			end = []byte{0, 0}
			l.encoding.wide.PutUint16(end, uint16(c))
		}
		if bytes.HasSuffix(raw, end) && len(raw)%len(end) == 0 {
			raw = raw[:len(raw)-len(end)]
		}
	}
	return raw
}
