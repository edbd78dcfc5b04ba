package api_test

import (
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers/strictjson"
)

// plainRequest is a request as a client writes it.
const plainRequest = `{"key":"k-1","report":{"type":"01001","title":"供水井盖异常","lat":29.5,"lon":106.51,"priority":3,"reported_at_ms":1760000000000}}`

// readsAsJSON holds a reader to what encoding/json reads of a text, strictly: one value,
// no field that it does not know, and nothing that it alters. Of a time in words, and of
// what is kept because it cannot be read, it knows nothing.
func readsAsJSON[T any](t *testing.T, text string, read func(string) (T, error), unread func(T) error) {
	t.Helper()
	var want T
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	wantErr := dec.Decode(&want)
	if wantErr == nil {
		if _, err := dec.Token(); !errors.Is(err, io.EOF) {
			wantErr = errors.New("more than one value")
		}
	}
	if wantErr == nil {
		wantErr = strictjson.Check([]byte(text))
	}
	got, err := read(text)
	if err == nil && unread(got) != nil || strings.Contains(strings.ToLower(text), "reported_at") && strings.Contains(text, ":") && wantErr != nil {
		return
	}
	if (err == nil) != (wantErr == nil) || err == nil && !reflect.DeepEqual(got, want) {
		t.Errorf("%q: %+v, %v, want %+v, %v", text, got, err, want, wantErr)
	}
}

// FuzzReportRequest: a request is read as encoding/json reads it, strictly, or refused
// as it is.
func FuzzReportRequest(f *testing.F) {
	for _, seed := range []string{
		plainRequest, plainRequest + "\n", plainRequest + "x", plainRequest + plainRequest, `{}`, `{"key":"k"}`, `{"Key":"k"}`, `{"key":"k",}`, `{"key":null}`,
		`{"key":"a","key":"b"}`, `{"key":"k","id":"i"}`, `{"key":"k","quarantine":true}`, `{"key":"k","other":1}`, `{"key":"k\u0041"}`, "{\"key\":\"\xff\"}", `[]`, ``,
		`{"report":{"type":"a"},"report":{"title":"b"}}`, `{"report":{"type":"a"},"report":null}`, `{"report":{"other":"a"}}`, `{"report":{}}`, `{"report":"x"}`,
		`{"report":{"type":"a"},"key":"k"`, `{"report":{"type":"a"}`, `{"report":{"type":"a"`, `{"report"`, `{"report":`, `{"key"`, `{"key":`, `{`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		readsAsJSON(t, text, api.ReportRequestOf, func(r api.ReportRequest) error { return r.Unread })
	})
}

// FuzzFeedMessage: so is a message of a feed.
func FuzzFeedMessage(f *testing.F) {
	for _, seed := range []string{
		`{"n":1,` + plainRequest[1:], `{"n":01}`, `{"n":-1}`, `{"n":1.5}`, `{"n":0,"key":"k"}`, `{"n":1,"n":2}`, `{"n":1`, `{"n":`, `{"n":99999999999999999999}`, `{"N":1}`, `{"n":1,"other":1}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		readsAsJSON(t, text, api.FeedMessageOf, func(m api.FeedMessage) error { return m.Unread })
	})
}

// TestAlteredRequest: what encoding/json would alter, or drop, is refused and named, or
// kept as it came where the request says so.
func TestAlteredRequest(t *testing.T) {
	for name, c := range map[string]struct{ report, says string }{
		"GBK":          {"{\"type\":\"01001\",\"title\":\"\xbe\xae\"}", "not UTF-8: byte 0xbe"},
		"half a pair":  {`{"type":"01001","title":"lone \ud83d"}`, `half of a surrogate pair, \ud83d`},
		"a name twice": {`{"type":"01001","title":"a","title":"b"}`, `"title" comes twice`},
		"a bad time":   {`{"type":"01001","title":"a","reported_at":"soon"}`, `reported_at: time "soon"`},
		"a wrong kind": {`{"type":"01001","priority":"high"}`, "priority is a string"},
	} {
		for n, text := range map[string]string{"": `{"key":"k","report":` + c.report + `}`, `"n":1,`: `{"n":1,"key":"k","report":` + c.report + `}`} {
			read := func(text string) (api.ReportRequest, error) {
				if n == "" {
					return api.ReportRequestOf(text)
				}
				m, err := api.FeedMessageOf(text)
				return m.ReportRequest, err
			}
			if _, err := read(text); !errors.Is(err, api.ErrInvalid) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s: %v, want %q", name, err, c.says)
			}
			kept, err := read(`{"quarantine":true,` + text[1:])
			if err != nil || kept.Unread == nil || !strings.Contains(kept.Unread.Error(), c.says) || string(kept.Raw) != c.report {
				t.Errorf("%s, kept: %+v, %v", name, kept, err)
			}
		}
	}
	if r, err := api.ReportRequestOf("{\"key\":\"\xbe\",\"quarantine\":true,\"report\":{}}"); !errors.Is(err, api.ErrInvalid) {
		t.Errorf("a key that is not UTF-8: %+v, %v", r, err)
	}
	if r, err := api.ReportRequestOf(`{"key":"k","report":{"reported_at":"2026-11-01 01:30"}}`); err != nil || r.Report.ReportedAtMS != 1793467800000 {
		t.Errorf("a time as people write it: %+v, %v", r, err)
	}
}

// TestEncode: a client does not send what is not UTF-8 as something else.
func TestEncode(t *testing.T) {
	for text, ok := range map[string]bool{"井": true, "\ufffd": true, `\ufffd`: true, `\\ufffd`: true, "\xbe\xae": false, `\` + "\xbe": false} {
		var r api.ReportRequest
		r.Report.Title = text
		if b, err := api.Encode(r); (err == nil) != ok || ok && !strings.Contains(string(b), "title") || !ok && !errors.Is(err, api.ErrInvalid) {
			t.Errorf("%q: %s, %v", text, b, err)
		}
	}
}

// TestPlainRequest: what a client writes is read without encoding/json.
func TestPlainRequest(t *testing.T) {
	lat, lon := 29.5, 106.51
	want := api.ReportRequest{Key: "k-1"}
	want.Report.Type, want.Report.Title, want.Report.Lat, want.Report.Lon = "01001", "供水井盖异常", &lat, &lon
	want.Report.Priority, want.Report.ReportedAtMS = 3, 1760000000000
	b, err := json.Marshal(want)
	if err != nil || string(b) != plainRequest {
		t.Fatalf("a client writes %s, %v", b, err)
	}
	got, ok := api.PlainRequest(plainRequest)
	if again, err := json.Marshal(got); !ok || err != nil || string(again) != plainRequest {
		t.Errorf("%+v, %t", got, ok)
	}
}

// FuzzPlainAnswer: what is read of an answer is what encoding/json reads.
func FuzzPlainAnswer(f *testing.F) {
	const plain = `{"n":1,"result":{"id":"event:x","stream":"500101/routine","seq":17}}`
	for _, seed := range []string{
		plain, plain + "x", `{"n":1,"result":{"id":"a","stream":"b","seq":017}}`, `{"n":1,"result":{"id":"a","stream":"b","seq":}}`,
		`{"n":1,"result":{"id":"a","stream":"b","seq":+1}}`, `{"n":1,"result":{"id":"a","stream":"b","seq":1}`, `{"n":1,"result":{"id":"a","stream":"b","seq":1,"held":"x"}}`,
		`{"n":1,"error":{"code":"invalid","message":"x"}}`, `{"n":01,"result":{"id":"a","stream":"b","seq":1}}`, `{"n":1,"result":{"id":"\u0041","stream":"b","seq":1}}`, `{}`, ``,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, ok := api.PlainAnswer(text)
		var want api.FeedAnswer
		if err := json.Unmarshal([]byte(text), &want); ok && (err != nil || !reflect.DeepEqual(got, want)) {
			t.Errorf("%q: %+v, want %+v, %v", text, got, want, err)
		}
		if text == plain && !ok {
			t.Errorf("%s is not read", text)
		}
	})
}

func BenchmarkReportRequest(b *testing.B) {
	for name, text := range map[string]string{"plain": plainRequest, "json": " " + plainRequest} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := api.ReportRequestOf(text); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
