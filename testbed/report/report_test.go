package report_test

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/tiermesh/tiermesh/testbed/report"
)

// write writes a report and returns its page and its JSON.
func write(t *testing.T, d *report.Data) (page, data string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "report")
	if err := report.Write(dir, d); err != nil {
		t.Fatal(err)
	}
	html, err := os.ReadFile(filepath.Join(dir, report.HTMLFile))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(dir, report.JSONFile))
	if err != nil {
		t.Fatal(err)
	}
	return string(html), string(b)
}

func TestJSON(t *testing.T) {
	d := city(20, 3)
	_, data := write(t, d)
	var back struct {
		Holds bool `json:"holds"`
		report.Data
	}
	if err := json.Unmarshal([]byte(data), &back); err != nil {
		t.Fatal(err)
	}
	if back.Holds || back.Seed != 42 || len(back.Samples) != len(d.Samples) || back.Script != d.Script {
		t.Errorf("%v, %d samples", back.Holds, len(back.Samples))
	}
	if _, data := write(t, small()); !strings.Contains(data, `"holds": true`) {
		t.Error("a good run does not hold")
	}
}

// TestPage: the page says what the run was and came to, in words that need no script
// and nothing from elsewhere.
func TestPage(t *testing.T) {
	page, _ := write(t, city(1031, 12))
	for _, want := range []string{
		"✗ does not hold", "partition.txt", "Ten districts are cut off", "mode <b>local</b>", "seed <b>42</b>", "48,209", "of 48,211 reported",
		"<code>expect converge &lt; 60s</code>", "71.4 s", "event:01932f1c-7d2e waited", "The slowest 20 of 1,036 sites", "渝中街道", "isolate 500102 涪陵区",
		"report 200/s from nyc311 at townships", `<span id="L14" class="bad">`, "township: 1,030 of 1,031", "×1.36",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if good, _ := write(t, small()); !strings.Contains(good, "✓ holds") || strings.Contains(good, "does not hold") || !strings.Contains(good, "The slowest sites") {
		t.Error("a good run does not look good")
	}
	idle := small()
	idle.Verdicts[1].Checked = 0
	if page, _ := write(t, idle); !strings.Contains(page, `<tr class="idle"><td class="mark">–</td><td>same views</td>`) {
		t.Error("an oracle that looked at nothing seems to acquit")
	}
	for what, pattern := range map[string]string{
		"a script": `(?i)<script|javascript:| on[a-z]+=`, "something from elsewhere": `(?i)(src|href)="[^#]|url\(|@import|<link`, "a colour of no name": `#FE01`,
	} {
		if found := regexp.MustCompile(pattern).FindString(page); found != "" {
			t.Errorf("the page holds %s: %s", what, found)
		}
	}
	style, _, _ := strings.Cut(page, "</style>")
	for _, name := range regexp.MustCompile(`var\((--t\d+)\)`).FindAllStringSubmatch(page, -1) {
		if !strings.Contains(style, name[1]+":") {
			t.Errorf("the style sheet lacks %s", name[1])
		}
	}
}

// TestPageIsBounded: a thousand sites, thousands of faults and a day of samples make
// a page that opens at once.
func TestPageIsBounded(t *testing.T) {
	d := city(1031, 4000)
	for i := range 100_000 {
		d.Samples = append(d.Samples, report.Sample{AtS: 420 + float64(i), Links: 1036, Equal: i % 1000, Owed: map[string]uint64{"urgent": uint64(i % 77)}})
	}
	page, _ := write(t, d)
	if len(page) > 600_000 {
		t.Errorf("%d bytes", len(page))
	}
	for _, want := range []string{"How many of the 4,000 faults", "3800 more", "3,800 more", "3,200</b> isolate"} {
		if strings.Contains(page, want) == (want == "3800 more") {
			t.Errorf("%q", want)
		}
	}
}

// TestHostileText: names and texts of a run cannot become part of the page.
func TestHostileText(t *testing.T) {
	const hostile = `<script>alert("x")</script>`
	d := city(10, 3)
	d.File, d.About, d.Mode, d.Script, d.Failure = hostile, hostile, hostile, hostile, hostile
	d.Faults[0].What, d.Sites[1].Name, d.Sites[1].ConvergedS, d.Expected[0].Got = hostile, hostile, -1, hostile
	d.Verdicts[0] = d.Verdicts[7]
	d.Verdicts[0].Examples = []string{hostile}
	for i := range d.Samples {
		d.Samples[i].Owed[hostile] = 7
	}
	page, _ := write(t, d)
	if strings.Contains(page, "<script") {
		t.Error("it is")
	}
	if n := strings.Count(page, "&lt;script&gt;"); n < 9 {
		t.Errorf("it is shown %d times", n)
	}
}

// TestNothing: a run that ended before it began has a report, too.
func TestNothing(t *testing.T) {
	page, _ := write(t, &report.Data{Failure: "no sites"})
	for _, want := range []string{"The run ended early: no sites", "Nothing was sampled.", "Nothing was done to the federation.", "No oracle was asked.", "The script expects nothing."} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(page, "<svg viewBox=\"0 0 960") {
		t.Error("it has plots of nothing")
	}
	still := small()
	still.Samples = still.Samples[:1]
	still.Faults = nil
	write(t, still)
	if err := report.Write(t.TempDir(), &report.Data{WorldS: math.NaN()}); err == nil {
		t.Error("a time that is no number is written")
	}
	if err := report.Write("/dev/null/x", small()); err == nil {
		t.Error("there is no such directory")
	}
}

// TestLanes: lanes show in their order, by class, whatever they are called together.
func TestLanes(t *testing.T) {
	d := small()
	for i := range d.Samples {
		d.Samples[i].Owed = map[string]uint64{"bulk": 1, "urgent, control": 2, "command": 3, "odd": 4, "reading": 5, "catalog": 6}
	}
	if got := strings.Join(report.Lanes(d), "; "); got != "command; urgent, control; catalog; reading; bulk; odd" {
		t.Error(got)
	}
	for i := range d.Samples {
		d.Samples[i].Owed = nil
	}
	if page, _ := write(t, d); !strings.Contains(page, "Nothing was owed") {
		t.Error("a backlog of nothing")
	}
}

// TestLineOf: a step is found in its script, also where that is written anew.
func TestLineOf(t *testing.T) {
	d := &report.Data{Script: "# one idea\ncut 1 2\nexpect lost 0\nexpect lost 0"}
	anew := &report.Data{Script: "seed 1\nlimit 5m\ncut 1 2\nexpect lost = 0"}
	for _, row := range []struct {
		d    *report.Data
		at   int
		text string
		want int
	}{
		{d, 2, "cut 1 2", 2}, {d, 4, "expect lost = 0", 4}, {anew, 2, "cut 1 2", 3}, {anew, 3, "expect lost = 0", 4}, {anew, 9, "isolate 3", 9},
	} {
		if got := row.d.LineOf(row.at, row.text); got != row.want {
			t.Errorf("line %d, %s: found at %d, want %d", row.at, row.text, got, row.want)
		}
	}
}

func TestDurations(t *testing.T) {
	for s, want := range map[float64]string{
		-1: "never", 0: "0 s", 0.25: "250 ms", 7: "7 s", 12.34: "12.3 s", 119: "119 s", 200: "3 min 20 s", 3600: "1 h", 7260: "2 h 1 min", 72 * 86400: "72 d", 90000: "1 d 1 h",
	} {
		if got := report.Duration(s); got != want {
			t.Errorf("%g s is %q, want %q", s, got, want)
		}
	}
}

// TestTicks: marks on any axis are few, in range and round.
func TestTicks(t *testing.T) {
	for span, want := range map[float64]string{
		0.3: "0 s 0.05 s 0.1 s 0.15 s 0.2 s 0.25 s 0.3 s", 45: "0 s 5 s 10 s 15 s 20 s 25 s 30 s 35 s 40 s 45 s",
		420: "0 min 1 min 2 min 3 min 4 min 5 min 6 min 7 min", 72 * 86400: "0 d 12 d 24 d 36 d 48 d 60 d 72 d",
	} {
		if got := report.TimeMarks(span, 10); got != want {
			t.Errorf("%g s: %s, want %s", span, got, want)
		}
	}
	for high, want := range map[float64]string{1: "0 1", 3.24: "0 1 2 3", 1036: "0 250 500 750 1k", 7: "0 2 4 6", 2.1e6: "0 500k 1M 1.5M 2M"} {
		if got := report.CountMarks(high); got != want {
			t.Errorf("%g: %s, want %s", high, got, want)
		}
	}
}

// TestThin: points that are left out take no peak with them.
func TestThin(t *testing.T) {
	in := make([]float64, 100_000)
	in[77_777], in[99_999] = 9, 3
	out := report.Thin(in, 100)
	if len(out) > 102 || len(out) < 50 {
		t.Errorf("%d of %d are left", len(out), len(in))
	}
	var peak bool
	for _, y := range out {
		peak = peak || y == 9
	}
	if !peak || out[len(out)-1] != 3 {
		t.Error("the peak or the end is gone")
	}
}
