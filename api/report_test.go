package api_test

import (
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/tiermesh/tiermesh/api"
)

// plainRequest is a request as a client writes it.
const plainRequest = `{"key":"k-1","report":{"type":"01001","title":"供水井盖异常","lat":29.5,"lon":106.51,"priority":3,"reported_at_ms":1760000000000}}`

// readsAsJSON holds a reader to what encoding/json reads of a text, strictly: one value
// and no field that it does not know.
func readsAsJSON[T any](t *testing.T, text string, read func(string) (T, error)) {
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
	got, err := read(text)
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
	f.Fuzz(func(t *testing.T, text string) { readsAsJSON(t, text, api.ReportRequestOf) })
}

// FuzzFeedMessage: so is a message of a feed.
func FuzzFeedMessage(f *testing.F) {
	for _, seed := range []string{
		`{"n":1,` + plainRequest[1:], `{"n":01}`, `{"n":-1}`, `{"n":1.5}`, `{"n":0,"key":"k"}`, `{"n":1,"n":2}`, `{"n":1`, `{"n":`, `{"n":99999999999999999999}`, `{"N":1}`, `{"n":1,"other":1}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) { readsAsJSON(t, text, api.FeedMessageOf) })
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
	if got, ok := api.PlainRequest(plainRequest); !ok || !reflect.DeepEqual(got, want) {
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
