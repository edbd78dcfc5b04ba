package input_test

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/unicode"
	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/tiers/input"
)

// read reads a whole file.
func read(t testing.TB, text string, o input.Options) (rows []input.Row, err error) {
	t.Helper()
	r, err := input.Open(strings.NewReader(text), o)
	for err == nil {
		var row input.Row
		if row, err = r.Next(); err == nil {
			rows = append(rows, row)
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	if err != nil && !errors.Is(err, input.ErrFile) {
		t.Fatalf("%v is no ErrFile", err)
	}
	return rows, err
}

// shown is a row in a line: where it is, and its fields or what is wrong.
func shown(rows []input.Row) string {
	var b strings.Builder
	for _, r := range rows {
		fmt.Fprintf(&b, "%d", r.Line)
		if r.Lines > 1 {
			fmt.Fprintf(&b, "+%d", r.Lines-1)
		}
		if r.Err != nil {
			fmt.Fprintf(&b, " !%v|%q\n", r.Err, r.Raw)
			continue
		}
		for _, f := range r.Fields {
			fmt.Fprintf(&b, " %s=%q", f.Name, f.Text)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// TestCSV: each row stands for itself.
func TestCSV(t *testing.T) {
	for name, c := range map[string]struct{ in, want string }{
		"plain":                 {"a,b\n1,2\r\n\n3,\n", "2 a=\"1\" b=\"2\"\n4 a=\"3\" b=\"\"\n"},
		"a mark, and spaces":    {"\ufeffa, b \n1, 2\n", "2 a=\"1\" b=\" 2\"\n"},
		"quotes":                {"a,b\n\"x,\"\"y\"\"\",\"\"\n", "2 a=\"x,\\\"y\\\"\" b=\"\"\n"},
		"over lines":            {"a,b\n1,\"x\r\ny\n\nz\"\n3,4", "2+3 a=\"1\" b=\"x\\ny\\n\\nz\"\n6 a=\"3\" b=\"4\"\n"},
		"columns":               {"a,b\n1\n1,2,3\n4,5\n", "2 !1 columns: want 2, as the header has|\"1\"\n3 !3 columns: want 2, as the header has|\"1,2,3\"\n4 a=\"4\" b=\"5\"\n"},
		"an open quote":         {"a,b\n1,\"x\n2,y\n3,z\n", "2 !a quote is opened and not closed|\"1,\\\"x\"\n3 a=\"2\" b=\"y\"\n4 a=\"3\" b=\"z\"\n"},
		"two open quotes":       {"a,b\n1,\"x\n2,y\n3,\"z\n4,w\n", "2 !a quote is opened and not closed|\"1,\\\"x\"\n3 a=\"2\" b=\"y\"\n4 !a quote is opened and not closed|\"3,\\\"z\"\n5 a=\"4\" b=\"w\"\n"},
		"one that closes far":   {"a,b,c,d\n1,\"x,y,z\n2,x,y,z\n3,x\",y,z\n", "2+2 a=\"1\" b=\"x,y,z\\n2,x,y,z\\n3,x\" c=\"y\" d=\"z\"\n"},
		"... and no row behind": {"a,b,c,d\n1,\"x,y,z\n2,x,y,z\n3,x\",y,z\n4\n", "2 !a quote is opened and not closed|\"1,\\\"x,y,z\"\n3 a=\"2\" b=\"x\" c=\"y\" d=\"z\"\n4 !a quote inside a field that has none around it|\"3,x\\\",y,z\"\n5 !1 columns: want 4, as the header has|\"4\"\n"},
		"text, and no row":      {"a,b\n1,\"x\ny\"\n4\n", "2+1 a=\"1\" b=\"x\\ny\"\n4 !1 columns: want 2, as the header has|\"4\"\n"},
		"commas over lines":     {"a,b,c,d\n-,\",,\n,\",,\n1,2,3,4\n", "2+1 a=\"-\" b=\",,\\n,\" c=\"\" d=\"\"\n4 a=\"1\" b=\"2\" c=\"3\" d=\"4\"\n"},
		"a header over lines":   {"\"a\nb\";\"c\n\"\n1;2\n", "4 a\nb=\"1\" c=\"2\"\n"},
		"spaces alone":          {"a\n \n\n\"\"\n", "2 a=\" \"\n4 a=\"\"\n"},
		"bare quotes":           {"a,b\n6\" pipe,x\n\"a\"b,x\n5,6\n", "2 !a quote inside a field that has none around it|\"6\\\" pipe,x\"\n3 !text behind a closing quote|\"\\\"a\\\"b,x\"\n4 a=\"5\" b=\"6\"\n"},
		"a zero byte":           {"a,b\n1,\x00\n3,4\n", "2 !a zero byte|\"1,\\x00\"\n3 a=\"3\" b=\"4\"\n"},
		"GBK among UTF-8": {"a,b\n1,\xbe\xae\xb8\xc7\n3,\u4e95\n", "2 !not UTF-8: byte 0xbe at 3; it may be GBK: --encoding gb18030 reads that|\"1,\\xbe\\xae\\xb8\\xc7\"\n" +
			"3 a=\"3\" b=\"\u4e95\"\n"},
		"semicolons":           {"a;b\n1;2,5\n", "2 a=\"1\" b=\"2,5\"\n"},
		"tabs":                 {"a\tb\n1\t2\n", "2 a=\"1\" b=\"2\"\n"},
		"bars, and a comma":    {"a|b, or c\n1|2\n", "2 a=\"1\" b, or c=\"2\"\n"},
		"as Excel says it":     {"sep=;\na,b;c\n1;2\n", "3 a,b=\"1\" c=\"2\"\n"},
		"a column without one": {"a,\n1,2\n", "2 a=\"1\" column 2=\"2\"\n"},
		"U+FFFD was there":     {"a\n\ufffd\n", "2 a=\"\ufffd\"\n"},
		"no end of the line":   {"a,b\n1,2", "2 a=\"1\" b=\"2\"\n"},
	} {
		rows, err := read(t, c.in, input.Options{Format: input.CSV})
		if got := shown(rows); err != nil || got != c.want {
			t.Errorf("%s: %v\n%s\nwant\n%s", name, err, got, c.want)
		}
	}
}

// TestJSON: elements of arrays, values one after the other, and lines.
func TestJSON(t *testing.T) {
	for name, c := range map[string]struct{ format, in, want string }{
		"an array":               {input.JSON, "[{\"a\":1},\n {\"b\":\"x\",\"c\":null}]", "1 a=\"1\"\n2 b=\"x\" c=\"\"\n"},
		"objects":                {input.JSON, "{\"a\":1}\n{\"a\":2}{\"a\":3}", "1 a=\"1\"\n2 a=\"2\"\n2 a=\"3\"\n"},
		"over lines":             {input.JSON, "[\n  {\n    \"a\": 1\n  },\n  {\n    \"a\": [2,\n 3]\n  }\n]\n", "2+2 a=\"1\"\n5+3 a=\"[2,\\n 3]\"\n"},
		"nothing in it":          {input.JSON, "[]", ""},
		"no objects":             {input.JSON, "[7, \"x\", {\"a\":1}]", "1 !\"7\" is no object|\"7\"\n1 !\"\\\"x\\\"\" is no object|\"\\\"x\\\"\"\n1 a=\"1\"\n"},
		"a word that is none":    {input.JSON, "[{\"a\":tru},{\"a\":2}]", "1 !no JSON at byte 9: invalid character '}' in literal true (expecting 'e')|\"{\\\"a\\\":tru}\"\n1 a=\"2\"\n"},
		"an open text":           {input.JSON, "[{\"a\":\"x},\n {\"a\":2}]", "1 !no JSON: a text is not closed on its line|\"{\\\"a\\\":\\\"x},\"\n2 a=\"2\"\n"},
		"an open text, one line": {input.JSON, "[{\"a\":\"x},{\"a\":2}]", "1 !no JSON: it does not end|\"{\\\"a\\\":\\\"x}\"\n1 a=\"2\"\n"},
		"an open object":         {input.JSON, "[{\"a\":1,\n {\"a\":2},\n {\"a\":3}]", "1 !no JSON: brackets do not match|\"{\\\"a\\\":1,\"\n2 a=\"2\"\n3 a=\"3\"\n"},
		"one closed elsewhere":   {input.JSON, "[{\"a\":1,\n {\"a\":2},\n {\"a\":3}}]", "1 !no JSON at byte 10: invalid character '{' looking for beginning of object key string|\"{\\\"a\\\":1,\"\n2 a=\"2\"\n3 a=\"3\"\n3 !no JSON: brackets do not match|\"}]\"\n"},
		"broken, over lines":     {input.JSON, "[\n  {\n    \"a\": \"1,\n  },\n  {\n    \"a\": 2\n  }\n]", "2+2 !no JSON: a text is not closed on its line|\"{\\n    \\\"a\\\": \\\"1,\\n  },\"\n5+2 a=\"2\"\n"},
		"broken, close together": {input.JSON, "[{\n \"a\": 1x\n},{\n \"a\": 2\n}]", "1+2 !no JSON at byte 10: invalid character 'x' after object key:value pair|\"{\\n \\\"a\\\": 1x\\n}\"\n3+2 a=\"2\"\n"},
		"a name twice":           {input.JSON, `[{"a":1,"a":2}]`, "1 !\"a\" comes twice in one object|\"{\\\"a\\\":1,\\\"a\\\":2}\"\n"},
		"half a pair":            {input.JSON, `[{"a":"\ud83d"},{"a":"\ud83d\ude00"}]`, "1 !half of a surrogate pair, \\ud83d, at byte 7|\"{\\\"a\\\":\\\"\\\\ud83d\\\"}\"\n1 a=\"\U0001f600\"\n"},
		"GBK in one":             {input.JSON, "[{\"a\":\"\xbe\xae\"},{\"a\":2}]", "1 !not UTF-8: byte 0xbe at 7|\"{\\\"a\\\":\\\"\\xbe\\xae\\\"}\"\n1 a=\"2\"\n"},
		"lines": {input.NDJSON, "{\"a\":1}\n\n{\"a\":\n[]\n{\"a\":2} {\"a\":3}\n {\"a\":4} ", "1 a=\"1\"\n3 !no JSON at byte 5: unexpected end of JSON input|\"{\\\"a\\\":\"\n" +
			"4 !\"[]\" is no object|\"[]\"\n5 !no JSON at byte 9: invalid character '{' after top-level value|\"{\\\"a\\\":2} {\\\"a\\\":3}\"\n6 a=\"4\"\n"},
		"by the first character": {"", " \n[{\"a\":1}]", "2 a=\"1\"\n"},
	} {
		rows, err := read(t, c.in, input.Options{Format: c.format})
		if got := shown(rows); err != nil || got != c.want {
			t.Errorf("%s: %v\n%s\nwant\n%s", name, err, got, c.want)
		}
	}
	if rows, err := read(t, `[{"a":1},`, input.Options{}); err == nil || !strings.Contains(err.Error(), "cut off") || len(rows) != 1 {
		t.Errorf("an array without its end: %v, %v", rows, err)
	}
}

// TestEncodings: what is written in an encoding is read as it was, row by row, and what
// is not in it is bad and keeps its bytes.
func TestEncodings(t *testing.T) {
	text := "类型,标题\r\n01001,供水井盖破损\r\n01002,㐀𠀀 \"x\n01003,\U0001f600\n"
	encode := map[string]func(string) (string, error){
		"utf-8": func(s string) (string, error) { return s, nil }, "gb18030": simplifiedchinese.GB18030.NewEncoder().String,
		"utf-16le": unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM).NewEncoder().String,
		"utf-16be": unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM).NewEncoder().String,
	}
	want := "2 类型=\"01001\" 标题=\"供水井盖破损\"\n3 !a quote inside a field that has none around it\n4 类型=\"01003\" 标题=\"\U0001f600\"\n"
	for name, enc := range encode {
		b, err := enc(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range []input.Options{{Encoding: name}, {}} {
			mark := ""
			if o.Encoding == "" && name != "gb18030" {
				mark, _ = enc("\ufeff")
			}
			rows, err := read(t, mark+b, o)
			if o.Encoding == "" && name == "gb18030" {
				if err == nil || !strings.Contains(err.Error(), "--encoding gb18030") {
					t.Errorf("%s without its name: %v, %v", name, rows, err)
				}
				continue
			}
			if err != nil || len(rows) != 3 {
				t.Errorf("%s: %v, %v", name, rows, err)
				continue
			}
			if raw, err := enc("01002,㐀𠀀 \"x"); err != nil || string(rows[1].Raw) != raw {
				t.Errorf("%s: the bytes are %q", name, rows[1].Raw)
			}
			rows[1].Raw = nil
			if got := strings.ReplaceAll(shown(rows), "|\"\"", ""); got != want {
				t.Errorf("%s: %s", name, got)
			}
		}
	}
	for name, c := range map[string]struct{ encoding, in, want string }{
		"UTF-16 without a mark": {"", "a\x00,\x00b\x00\n\x001\x00,\x00\x0a\x4e\n\x00", "2 a=\"1\" b=\"\u4e0a\"\n"},
		"half of a character":   {"utf-16le", "a\x00\n\x00\x00\xd8\n\x002\x00\n\x00", "2 !not utf-16le: half of a surrogate pair at byte 1|\"\\x00\\xd8\"\n3 a=\"2\"\n"},
		"GBK that is none":      {"gbk", "a\n\xbe\n\xbe\xae\n", "2 !not gbk: behind \"\"|\"\\xbe\"\n3 a=\"\u4e95\"\n"},
		"more than GB2312":      {"gb2312", "a\n\x81\x39\xef\x30\n", "2 a=\"\u3401\"\n"},
	} {
		rows, err := read(t, c.in, input.Options{Format: input.CSV, Encoding: c.encoding})
		if got := shown(rows); err != nil || got != c.want {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
	}
}

// TestUnreadable: a file of which nothing can be read says why.
func TestUnreadable(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		o    input.Options
		want string
	}{
		"empty":              {"", input.Options{Format: input.CSV}, "no header"},
		"a column twice":     {"a,b, a\n", input.Options{}, "columns 1 and 3 are both \"a\""},
		"several delimiters": {"a,b;c\n1\n", input.Options{}, "--delimiter"},
		"a header of GBK":    {"\xc0\xe0\xd0\xcd,b\n", input.Options{}, "--encoding gb18030"},
		"an open header":     {"a,\"b\n1,2\n", input.Options{}, "not closed"},
		"zero bytes":         {"a\x00\x00b\n", input.Options{}, "utf-16"},
		"CR alone":           {"a,b\r1,2\r", input.Options{}, "CR alone"},
		"UTF-32":             {"\xff\xfe\x00\x00a\x00\x00\x00", input.Options{}, "utf-32"},
		"another mark":       {"\xff\xfea\x00", input.Options{Encoding: "gbk"}, "mark of utf-16le"},
		"an encoding":        {"a", input.Options{Encoding: "klingon"}, "gb18030"},
		"a format":           {"a", input.Options{Format: "xlsx"}, "ndjson"},
	} {
		if rows, err := read(t, c.in, c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v; want %q", name, rows, err, c.want)
		}
	}
}

// TestBounds: what is kept of a row is bounded, and a line that is too long costs
// itself alone.
func TestBounds(t *testing.T) {
	long := strings.Repeat("x", 3<<20)
	for name, in := range map[string]string{"csv": "a,b\n1," + long + "\n2,3\n", "ndjson": "{\"a\":\"" + long + "\"}\n{\"a\":2}\n", "json": "[{\"a\":\"" + long + "\n{\"a\":2}]"} {
		rows, err := read(t, in, input.Options{Format: name, RawBytesMax: 100})
		if err != nil || len(rows) != 2 || rows[0].Err == nil || len(rows[0].Raw) != 100 || rows[0].Size < 3<<20 || rows[1].Err != nil {
			t.Errorf("%s: %d rows, %v", name, len(rows), err)
		}
	}
}

// TestGood: lines that a quoted field would go over come through if they are rows and
// none follows; text that only looks like some does not, and what is well-formed is read
// as it is.
func TestGood(t *testing.T) {
	good := func(r input.Row) bool { return strings.HasPrefix(r.Fields[0].Text, "0") }
	rows, err := read(t, "type,title\n01,\"a\n02,b\n03,\"\n04\n", input.Options{Good: good})
	if err != nil || len(rows) != 4 || rows[0].Err == nil || rows[1].Err != nil || rows[1].Line != 3 || rows[2].Err == nil || rows[3].Err == nil {
		t.Errorf("rows: %s, %v", shown(rows), err)
	}
	for _, text := range []string{"01,\"a\nbed, table\nb\"\n04\n", "01,\"a\n02,b\n03,\"\n\n04,\"b\n\"\n"} {
		rows, err = read(t, "type,title\n"+text, input.Options{Good: good})
		if err != nil || len(rows) != 2 || rows[0].Err != nil || rows[0].Lines != 3 {
			t.Errorf("text: %s, %v", shown(rows), err)
		}
	}
}

// TestWellFormedCSV: a file that is as RFC 4180 has it is read as the standard library
// reads it, whatever stands in its quotes.
func TestWellFormedCSV(t *testing.T) {
	cell := rapid.Custom(func(t *rapid.T) string {
		text := strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", " ", "0", "井", ",", ";", "\"", "\n", "\r\n", "1,2", "a,b,c\n"}), 0, 6).Draw(t, "text"), "")
		if strings.ContainsAny(text, ",\"\r\n") || text == "" || rapid.Bool().Draw(t, "quoted") {
			return `"` + strings.ReplaceAll(text, `"`, `""`) + `"`
		}
		return text
	})
	rapid.Check(t, func(t *rapid.T) {
		columns := rapid.IntRange(1, 6).Draw(t, "columns")
		var header []string
		for i := range columns {
			header = append(header, fmt.Sprintf(rapid.SampledFrom([]string{"c%d", `"c%d"`, "\"c\n%d\"", `"c,""%d"`}).Draw(t, "name"), i))
		}
		text := strings.Join(header, ",")
		for range rapid.IntRange(0, 12).Draw(t, "rows") {
			text += rapid.SampledFrom([]string{"\n", "\r\n", "\n\n"}).Draw(t, "end") + strings.Join(rapid.SliceOfN(cell, columns, columns).Draw(t, "cells"), ",")
		}
		text += rapid.SampledFrom([]string{"", "\n", "\r\n"}).Draw(t, "last")
		want, err := csv.NewReader(strings.NewReader(text)).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		r, err := input.Open(strings.NewReader(text), input.Options{
			Format: input.CSV, Delimiter: ',', Good: func(input.Row) bool { return rapid.Bool().Draw(t, "good") },
		})
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		if !slices.Equal(r.Header(), want[0]) {
			t.Fatalf("%q: columns %q, want %q", text, r.Header(), want[0])
		}
		for _, cells := range want[1:] {
			row, err := r.Next()
			if err != nil || row.Err != nil {
				t.Fatalf("%q: %v, %v", text, err, row.Err)
			}
			var got []string
			for _, f := range row.Fields {
				got = append(got, f.Text)
			}
			if !slices.Equal(got, cells) {
				t.Fatalf("%q: %q, want %q", text, got, cells)
			}
		}
		if row, err := r.Next(); !errors.Is(err, io.EOF) {
			t.Fatalf("%q: one more, %+v, %v", text, row, err)
		}
	})
}
