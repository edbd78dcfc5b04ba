package strictjson_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/tiermesh/tiermesh/tiers/strictjson"
)

// TestCheck: what encoding/json alters is found, and named.
func TestCheck(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		kind error
		says string
	}{
		"clean":                     {`{"a":[{"b":1},{"b":"\ud83d\ude00"}],"c":"\\ud83d","d":{"a":2}}`, nil, ""},
		"no JSON":                   {`{"a`, nil, ""},
		"U+FFFD that was there":     {`"` + "\ufffd" + `\ufffd"`, nil, ""},
		"GBK":                       {"{\"title\":\"\xbe\xae\xb8\xc7\"}", strictjson.ErrText, "byte 0xbe at 11"},
		"a high half":               {`{"a":"x\ud83d"}`, strictjson.ErrText, `\ud83d, at byte 8`},
		"a high half, then another": {`["\ud83d\u0041"]`, strictjson.ErrText, `\ud83d`},
		"a high half twice":         {`["\ud83d\ud83d\ude00"]`, strictjson.ErrText, `\ud83d`},
		"a low half":                {`["\uDE00"]`, strictjson.ErrText, `\uDE00`},
		"half in a name":            {`{"\ud83d":1}`, strictjson.ErrText, `\ud83d`},
		"twice":                     {`{"a":1,"b":{},"a":2}`, strictjson.ErrTwice, `"a" comes twice`},
		"twice, escaped":            {`{"a":1,"\u0061":2}`, strictjson.ErrTwice, `"a" comes twice`},
		"twice, in another case":    {`{"title":1,"Title":2}`, strictjson.ErrTwice, `"Title" comes twice`},
		"twice, further down":       {`[{"x":{"a":1,"a":2}}]`, strictjson.ErrTwice, `"a" comes twice`},
		"values that are equal":     {`{"a":"b","b":"a","c":["a","a"]}`, nil, ""},
	} {
		err := strictjson.Check([]byte(c.text))
		if !errors.Is(err, c.kind) || c.kind != nil && !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %v saying %q", name, err, c.kind, c.says)
		}
	}
}

func TestFields(t *testing.T) {
	got, err := strictjson.Fields([]byte(` {"b": [1, {"x":2}], "a":"é\n", "A":null} `))
	if err != nil || len(got) != 3 || got[0].Name != "b" || string(got[0].Value) != `[1, {"x":2}]` || got[1].Name != "a" || string(got[2].Value) != "null" {
		t.Errorf("%s, %v", got, err)
	}
	for text, kind := range map[string]error{
		`7`: strictjson.ErrSyntax, `[]`: strictjson.ErrSyntax, `{"a":1`: strictjson.ErrSyntax, `{"a":1} {}`: strictjson.ErrSyntax, ``: strictjson.ErrSyntax,
		`{"a":tru}`: strictjson.ErrSyntax, `{"a":1,"a":2}`: strictjson.ErrTwice, `{"a":"\udc00"}`: strictjson.ErrText, "{\"a\":\"\xff\"}": strictjson.ErrText,
		`{"\udc00":1}`: strictjson.ErrText, `{"a":{"b":1,"b":1}}`: strictjson.ErrTwice,
	} {
		if got, err := strictjson.Fields([]byte(text)); !errors.Is(err, kind) {
			t.Errorf("%q: %v, %v; want %v", text, got, err, kind)
		}
	}
}

// FuzzCheck: a JSON text that passes is decoded without a replacement character that
// it did not have, and decodes to as many values as it has.
func FuzzCheck(f *testing.F) {
	for _, text := range []string{`{"a":"\ud83d\ude00"}`, `["\ud83d"]`, "\"\xff\"", `{"a":1,"a":2}`, `{"a":"\\\ud800"}`, `"\uD83D\uDE0"`, `{"":{"":0}}`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if strictjson.Check(text) != nil || !json.Valid(text) {
			return
		}
		var v any
		if err := json.Unmarshal(text, &v); err != nil {
			return // a number beyond all bounds
		}
		var out bytes.Buffer
		if err := json.NewEncoder(&out).Encode(v); err != nil {
			t.Fatal(err)
		}
		had := bytes.Contains(text, []byte("\ufffd")) || bytes.Contains(bytes.ToLower(text), []byte(`\ufffd`))
		if bytes.Contains(out.Bytes(), []byte("\ufffd")) && !had {
			t.Fatalf("%q became %q", text, out.Bytes())
		}
		fields, err := strictjson.Fields(text)
		if m, ok := v.(map[string]any); ok && (err != nil || len(fields) != len(m)) {
			t.Fatalf("%q: %d fields of %d, %v", text, len(fields), len(m), err)
		}
	})
}
