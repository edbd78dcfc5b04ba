package input

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/traditionalchinese"
	"golang.org/x/text/transform"

	"github.com/tiermesh/tiermesh/tiers/strictjson"
)

// The encodings of files.
const (
	UTF8    = "utf-8"
	UTF16   = "utf-16" // by its byte order mark, or little-endian
	UTF16LE = "utf-16le"
	UTF16BE = "utf-16be"
	GBK     = "gbk"
	GB18030 = "gb18030"
	Big5    = "big5"
	Windows = "windows-1252"
)

// Encodings lists the names of encodings.
func Encodings() []string {
	return []string{UTF8, UTF16, UTF16LE, UTF16BE, GBK, GB18030, Big5, Windows}
}

// encoding decodes lines.
type encoding struct {
	name string
	// wide says that a character takes two bytes or four, in this order.
	wide binary.ByteOrder
	// from decodes anew each time; nil for UTF-8 and for wide ones.
	from func() transform.Transformer
}

// gb decodes GB2312 and GBK, too: they are parts of it, and what says that it is one
// of them often has characters of it.
func gb() transform.Transformer { return simplifiedchinese.GB18030.NewDecoder() }

var encodings = map[string]encoding{
	UTF8: {name: UTF8}, "utf8": {name: UTF8},
	UTF16: {name: UTF16LE, wide: binary.LittleEndian}, "utf16": {name: UTF16LE, wide: binary.LittleEndian},
	UTF16LE: {name: UTF16LE, wide: binary.LittleEndian}, UTF16BE: {name: UTF16BE, wide: binary.BigEndian},
	GBK: {name: GBK, from: gb}, "gb2312": {name: GBK, from: gb}, "cp936": {name: GBK, from: gb}, GB18030: {name: GB18030, from: gb},
	Big5:    {name: Big5, from: func() transform.Transformer { return traditionalchinese.Big5.NewDecoder() }},
	Windows: {name: Windows, from: func() transform.Transformer { return charmap.Windows1252.NewDecoder() }},
}

// marks are the byte order marks; the longer ones first.
var marks = []struct {
	bytes, encoding string
}{{"\xff\xfe\x00\x00", "utf-32"}, {"\x00\x00\xfe\xff", "utf-32"}, {"\xef\xbb\xbf", UTF8}, {"\xff\xfe", UTF16LE}, {"\xfe\xff", UTF16BE}}

// encodingOf finds the encoding of a file that begins with head, and how many bytes of
// a mark there are. The error wraps [ErrFile].
func encodingOf(name string, head []byte) (encoding, int, error) {
	e, ok := encodings[strings.ToLower(name)]
	if name != "" && !ok {
		return e, 0, fmt.Errorf("%w: encoding %.40q: want one of %s", ErrFile, name, strings.Join(Encodings(), ", "))
	}
	for _, m := range marks {
		if !bytes.HasPrefix(head, []byte(m.bytes)) {
			continue
		}
		marked, known := encodings[m.encoding]
		switch {
		case !known:
			return e, 0, fmt.Errorf("%w: it is %s: convert it to UTF-8 first", ErrFile, m.encoding)
		case name == "" || e.name == marked.name || e.wide != nil && marked.wide != nil:
			return marked, len(m.bytes), nil
		case e.wide != nil || marked.wide != nil || e.from != nil:
			return e, 0, fmt.Errorf("%w: it begins with the mark of %s, and is said to be %s", ErrFile, marked.name, e.name)
		}
	}
	if name != "" {
		return e, 0, nil
	}
	if len(head) >= 4 {
		switch { // two letters of ASCII; other encodings have no zero bytes
		case printable(head[0]) && head[1] == 0 && printable(head[2]) && head[3] == 0:
			return encodings[UTF16LE], 0, nil
		case head[0] == 0 && printable(head[1]) && head[2] == 0 && printable(head[3]):
			return encodings[UTF16BE], 0, nil
		}
	}
	return encodings[UTF8], 0, nil
}

func printable(b byte) bool { return b >= ' ' && b <= '~' }

var errHalf = errors.New("half of a surrogate pair")

// decode makes UTF-8 of a line. The error says where it is not in the encoding.
func (e encoding) decode(line []byte) (string, error) {
	switch {
	case e.wide != nil:
		return e.decodeWide(line)
	case e.from == nil:
		if err := strictjson.UTF8(line); err != nil {
			hint := ""
			if out, _, bad := transform.Bytes(gb(), line); bad == nil && !bytes.ContainsRune(out, utf8.RuneError) {
				hint = "; it may be GBK: --encoding gb18030 reads that"
			}
			return "", fmt.Errorf("%w%s", err, hint)
		}
		return string(line), nil
	}
	out, _, err := transform.Bytes(e.from(), line)
	if err != nil {
		return "", fmt.Errorf("not %s: %w", e.name, err)
	}
	if at := bytes.IndexRune(out, utf8.RuneError); at >= 0 {
		return "", fmt.Errorf("not %s: behind %.20q", e.name, lastRunes(string(out[:at])))
	}
	return string(out), nil
}

// lastRunes cuts a text to its end.
func lastRunes(s string) string {
	r := []rune(s)
	return string(r[max(0, len(r)-8):])
}

func (e encoding) decodeWide(line []byte) (string, error) {
	if len(line)%2 != 0 {
		return "", fmt.Errorf("not %s: half of a character at its end", e.name)
	}
	var out []byte
	for i := 0; i < len(line); i += 2 {
		r := rune(e.wide.Uint16(line[i:]))
		if utf16.IsSurrogate(r) {
			low := rune(0)
			if i+4 <= len(line) {
				low = rune(e.wide.Uint16(line[i+2:]))
			}
			if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
				return "", fmt.Errorf("not %s: %w at byte %d", e.name, errHalf, i+1)
			}
			i += 2
		}
		out = utf8.AppendRune(out, r)
	}
	return string(out), nil
}
