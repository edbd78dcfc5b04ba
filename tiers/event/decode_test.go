package event_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/tiermesh/tiermesh/tiers/event"
)

// plainReport is a report as a site writes it.
const plainReport = `{"source_key":"k1","type":"01001","title":"供水井盖异常","text":"井盖破损","place":"白岩路 3 号","lat":29.5,"lon":-106.51,` +
	`"priority":3,"reporter":"网格员","channel":"app","grid":"500101001003","reported_at_ms":1760000000000}`

// FuzzReport: a report is read as encoding/json reads it, or refused as it is.
func FuzzReport(f *testing.F) {
	for _, seed := range []string{
		plainReport, `{}`, `{"type":"a"}`, `{"type":"a",}`, `{"type":"a"}x`, ` {"type":"a"}`, `{"type":"a\u003cb"}`, `{"type":null}`, `{"Type":"a"}`,
		`{"type":"a","type":"b"}`, `{"priority":03}`, `{"priority":3.0}`, `{"priority":-0}`, `{"lat":1e3}`, `{"lat":1.}`, `{"lat":.5}`, `{"lat":-}`, `{"lat":}`,
		`{"type":1}`, `{"lat":"1"}`, `{"other":"x"}`, "{\"type\":\"a\xff\"}", "{\"type\":\"a\nb\"}", `{"reported_at_ms":99999999999999999999}`, `{"lat":1,"lat":null}`, `[]`, ``,
		`{"priority":3,"reported_at_ms":1.5}`, `{"type":"a"`, `{"type"`, `{"type":`, `{"text":"` + strings.Repeat("x", 300) + `"}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var want, got event.Report
		wantErr, gotErr := json.Unmarshal([]byte(text), &want), event.DecodeReport(text, &got)
		if (wantErr == nil) != (gotErr == nil) || wantErr == nil && !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %+v, %v, want %+v, %v", text, got, gotErr, want, wantErr)
		}
	})
}

// TestPlainReport: what a site writes is read without encoding/json.
func TestPlainReport(t *testing.T) {
	r, rest, ok := event.PlainReport(plainReport + ",x")
	if !ok || rest != ",x" || r.Grid != "500101001003" || *r.Lon != -106.51 || r.ReportedAtMS != 1760000000000 {
		t.Errorf("%+v, %q, %t", r, rest, ok)
	}
}

func BenchmarkDecodeReport(b *testing.B) {
	for name, f := range map[string]func(string, *event.Report) error{
		"here": event.DecodeReport,
		"json": func(s string, r *event.Report) error { return json.Unmarshal([]byte(s), r) },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				var r event.Report
				if err := f(plainReport, &r); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
