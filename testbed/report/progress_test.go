package report_test

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tiermesh/tiermesh/testbed/report"
)

// TestProgressInALog: where a line cannot be drawn again, whole lines show, and ever
// more seldom.
func TestProgressInALog(t *testing.T) {
	var b bytes.Buffer
	p := report.NewProgress(&b)
	p.Step("first")
	p.Bar(1, 2, "sites up")
	for i := range 72 * 24 * 60 { // 72 days of minutes
		p.Sample(report.Sample{AtS: float64(60 * i), Reported: 1200, Acknowledged: 1199, Links: 38, Connected: 30, Equal: 29, Owed: map[string]uint64{"urgent": 1, "routine": 2000}})
	}
	p.Done()
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) < 20 || len(lines) > 60 {
		t.Errorf("%d lines", len(lines))
	}
	want := "  0 s         acked 1,199/1,200  owed 2,001  links 30/38  equal 29"
	if lines[0] != "first" || lines[1] != want || strings.ContainsAny(b.String(), "\r\033") {
		t.Errorf("%q", lines[:2])
	}
}

// TestProgressOnATerminal: one line is drawn again and again, not too often, and is
// gone before a line that stays.
func TestProgressOnATerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bytes.Buffer
		p := report.NewLive(&b)
		for i := range 100 {
			p.Sample(report.Sample{AtS: float64(i)})
			time.Sleep(10 * time.Millisecond)
		}
		if n := strings.Count(b.String(), "acked"); n != 20 {
			t.Errorf("drawn %d times in a second, want 20", n)
		}
		p.Bar(30, 30, "sites up")
		p.Line("done")
		if !strings.HasSuffix(b.String(), "[##############################] 30 of 30 sites up\r\033[Kdone\n") {
			t.Errorf("%q", b.String())
		}
		if strings.Count(b.String(), "\n") != 1 {
			t.Errorf("%q", b.String())
		}
	})
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = null.Close() }()
	report.NewProgress(null).Sample(report.Sample{})
}
