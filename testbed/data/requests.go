package data

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Request is one service request.
type Request struct {
	Key, Type, Descriptor, Agency string
	// Place is borough, board and postcode, as far as they are given.
	Place    string
	Lat, Lon float64
	HasPoint bool
	// Created and Closed are New York times; Closed is zero while open.
	Created, Closed time.Time
	Channel, Status string
}

// RowError says why a row was set aside; reading goes on behind it.
type RowError struct {
	// Line is the row's first line in the file, from 1.
	Line   int
	Reason string
}

// Error implements error.
func (e *RowError) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Reason) }

// The columns of the file.
const (
	colKey = iota
	colCreated
	colClosed
	colAgency
	colType
	colDescriptor
	colZip
	colStatus
	colDue
	colUpdated
	colBoard
	colBorough
	colChannel
	colLat
	colLon
	colCount
)

const (
	// fieldBytesMax bounds a field, lineBytesMax a line.
	fieldBytesMax = 16 << 10
	lineBytesMax  = 64 << 10
	// rowLinesMax bounds the lines of one row, whose quoted fields may hold
	// line breaks; past it the quote was a stray one.
	rowLinesMax = 16

	timeLayout = "01/02/2006 03:04:05 PM"
)

// newYork is Eastern Standard Time: the built-in file is from February.
var newYork = time.FixedZone("EST", -5*60*60)

// line is one line of input; long ones are cut and marked.
type line struct {
	text    []byte
	number  int
	tooLong bool
}

// RequestReader reads service requests and sets bad rows aside.
type RequestReader struct {
	r      *bufio.Reader
	ahead  []line
	number int
	header bool
}

// Requests returns a reader of rows in the format of nyc311.csv.
func Requests(r io.Reader) *RequestReader {
	return &RequestReader{r: bufio.NewReaderSize(r, 64<<10)}
}

// Next returns the next good row. The error is a [*RowError] for a row that was
// set aside, after which Next goes on; io.EOF at the end; or the input's.
func (q *RequestReader) Next() (Request, error) {
	if !q.header {
		if _, err := q.line(); err != nil {
			return Request{}, err
		}
		q.header = true
	}
	text, number, err := q.row()
	if err != nil {
		return Request{}, err
	}
	req, reason := parse(text)
	if reason != "" {
		return Request{}, &RowError{number, reason}
	}
	return req, nil
}

// line returns the next line without its end; blank lines are skipped.
func (q *RequestReader) line() (line, error) {
	if len(q.ahead) > 0 {
		l := q.ahead[0]
		q.ahead = q.ahead[1:]
		return l, nil
	}
	for {
		l := line{number: q.number + 1}
		part, err := q.r.ReadSlice('\n')
		for ; errors.Is(err, bufio.ErrBufferFull); part, err = q.r.ReadSlice('\n') {
			l.tooLong = true
		}
		if err != nil && (!errors.Is(err, io.EOF) || len(part) == 0 && !l.tooLong) {
			return line{}, err
		}
		q.number++
		l.text = bytes.Clone(bytes.TrimRight(part, "\r\n"))
		l.tooLong = l.tooLong || len(l.text) > lineBytesMax
		if len(l.text) > 0 || l.tooLong {
			return l, nil
		}
	}
}

// row collects the lines of one row. When its quotes do not close within
// bounds, only its first line is set aside: the rest are read again.
func (q *RequestReader) row() (string, int, error) {
	first, err := q.line()
	if err != nil {
		return "", 0, err
	}
	if first.tooLong {
		return "", 0, &RowError{first.number, fmt.Sprintf("longer than %d bytes", lineBytesMax)}
	}
	text := first.text
	var more []line
	for bytes.Count(text, []byte{'"'})%2 != 0 {
		l, err := q.line()
		if err == nil {
			more = append(more, l)
		}
		if err != nil || l.tooLong || len(more) == rowLinesMax || len(text) > lineBytesMax {
			q.ahead = append(more, q.ahead...)
			return "", 0, &RowError{first.number, "a quoted field does not end"}
		}
		text = append(append(bytes.Clone(text), '\n'), l.text...)
	}
	return string(text), first.number, nil
}

// parse reads one row; reason is empty when it is good.
func parse(text string) (req Request, reason string) {
	switch {
	case !utf8.ValidString(text):
		return req, "not UTF-8"
	case strings.ContainsRune(text, 0):
		return req, "a zero byte"
	}
	r := csv.NewReader(strings.NewReader(text))
	r.FieldsPerRecord = -1
	f, err := r.Read()
	if err != nil {
		return req, "bad quoting"
	}
	if len(f) != colCount {
		return req, fmt.Sprintf("%d columns, want %d", len(f), colCount)
	}
	for i, v := range f {
		if len(v) > fieldBytesMax {
			return req, fmt.Sprintf("column %d is %d bytes long, at most %d", i+1, len(v), fieldBytesMax)
		}
	}
	if f[colKey] == "" || f[colType] == "" {
		return req, "no key or no type"
	}
	req = Request{
		Key: f[colKey], Type: f[colType], Descriptor: f[colDescriptor], Agency: f[colAgency],
		Channel: f[colChannel], Status: f[colStatus],
		Place: strings.Join(strings.Fields(strings.Join([]string{f[colBorough], f[colBoard], f[colZip]}, " ")), " "),
	}
	if reason = req.times(f); reason == "" {
		reason = req.point(f)
	}
	return req, reason
}

func (r *Request) times(f []string) string {
	var err error
	if r.Created, err = time.ParseInLocation(timeLayout, f[colCreated], newYork); err != nil {
		return fmt.Sprintf("created %.40q is not a time like %q", f[colCreated], timeLayout)
	}
	if f[colClosed] == "" {
		return ""
	}
	if r.Closed, err = time.ParseInLocation(timeLayout, f[colClosed], newYork); err != nil {
		return fmt.Sprintf("closed %.40q is not a time like %q", f[colClosed], timeLayout)
	}
	if r.Closed.Before(r.Created) {
		return fmt.Sprintf("closed %s before it was created %s", f[colClosed], f[colCreated])
	}
	return ""
}

// point reads the coordinates. A row with neither coordinates nor a postcode
// names no place that anybody can be sent to.
func (r *Request) point(f []string) string {
	if f[colLat] == "" && f[colLon] == "" {
		if f[colZip] == "" {
			return "no place: neither coordinates nor postcode"
		}
		return ""
	}
	var err1, err2 error
	r.Lat, err1 = strconv.ParseFloat(f[colLat], 64)
	r.Lon, err2 = strconv.ParseFloat(f[colLon], 64)
	if err1 != nil || err2 != nil || !(r.Lat >= -90 && r.Lat <= 90) || !(r.Lon >= -180 && r.Lon <= 180) {
		return fmt.Sprintf("coordinates %.40q, %.40q", f[colLat], f[colLon])
	}
	r.HasPoint = true
	return ""
}
