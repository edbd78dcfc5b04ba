package instant_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/tiers/instant"
)

func parser(t testing.TB, format, zone string) *instant.Parser {
	t.Helper()
	z, err := instant.Zone(zone)
	if err != nil {
		t.Fatal(err)
	}
	p, err := instant.New(instant.Options{Format: format, Zone: z})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestParse: each form that is understood, to the millisecond.
func TestParse(t *testing.T) {
	for name, c := range map[string]struct{ format, zone, text, want string }{
		"RFC 3339":                     {"", "", "2026-11-01T01:30:00-04:00", "2026-11-01T05:30:00Z"},
		"RFC 3339, Z and a fraction":   {"", "", "2026-11-01T01:30:00.125Z", "2026-11-01T01:30:00.125Z"},
		"RFC 3339, small letters":      {"", "", "2026-11-01t01:30:00z", "2026-11-01T01:30:00Z"},
		"a space, and an offset":       {"", "", "2026-11-01 01:30:00+08:00", "2026-10-31T17:30:00Z"},
		"a space before the offset":    {"", "", "2026-11-01 01:30:00 +0800", "2026-10-31T17:30:00Z"},
		"an offset of hours":           {"", "", "2026-11-01 01:30:00-05", "2026-11-01T06:30:00Z"},
		"UTC in letters":               {"", "", "2026-11-01 01:30 UTC", "2026-11-01T01:30:00Z"},
		"a comma before the fraction":  {"", "", "2026-11-01T01:30:00,5Z", "2026-11-01T01:30:00.5Z"},
		"local":                        {"", "", "2026-11-01 01:30:00", "2026-10-31T17:30:00Z"},
		"local with a T":               {"", "", "2026-11-01T01:30:00", "2026-10-31T17:30:00Z"},
		"local to the minute":          {"", "", "2026-11-01 01:30", "2026-10-31T17:30:00Z"},
		"local in another zone":        {"", "America/New_York", "2026-11-02 01:30", "2026-11-02T06:30:00Z"},
		"an offset beats the zone":     {"", "America/New_York", "2026-11-01T01:30:00-05:00", "2026-11-01T06:30:00Z"},
		"slashes, the year first":      {"", "", "2026/11/01 01:30", "2026-10-31T17:30:00Z"},
		"no leading zeros":             {"", "", "2026/1/2 3:04", "2026-01-01T19:04:00Z"},
		"points":                       {"", "", "2026.11.01", "2026-10-31T16:00:00Z"},
		"twelve hours":                 {"", "", "2026-11-01 12:30:05 AM", "2026-10-31T16:30:05Z"},
		"Chinese, a date":              {"", "", "2026年11月1日", "2026-10-31T16:00:00Z"},
		"Chinese, a time":              {"", "", "2026年11月1日1时30分", "2026-10-31T17:30:00Z"},
		"Chinese, with seconds":        {"", "", "2026年11月1日 1时30分05秒", "2026-10-31T17:30:05Z"},
		"Chinese, the hour":            {"", "", "2026年11月1日 13时", "2026-11-01T05:00:00Z"},
		"Chinese, the afternoon":       {"", "", "2026年11月1日 下午1:30", "2026-11-01T05:30:00Z"},
		"Chinese, figures of a clock":  {"", "", "2026年11月01日 01:30:00", "2026-10-31T17:30:00Z"},
		"a date":                       {"", "", "2026-11-01", "2026-10-31T16:00:00Z"},
		"a date in another zone":       {"", "America/New_York", "2026-11-01", "2026-11-01T04:00:00Z"},
		"a date whose day starts late": {"", "America/Sao_Paulo", "2018-11-04", "2018-11-04T03:00:00Z"},
		"basic date":                   {"", "", "20261101", "2026-10-31T16:00:00Z"},
		"basic":                        {"", "", "20261101T013000", "2026-10-31T17:30:00Z"},
		"basic, Z":                     {"", "", "20261101T013000Z", "2026-11-01T01:30:00Z"},
		"basic, an offset":             {"", "", "20261101T0130+0530", "2026-10-31T20:00:00Z"},
		"fourteen digits":              {"", "", "20261101013000", "2026-10-31T17:30:00Z"},
		"milliseconds":                 {"", "", "1793467800123", "2026-10-31T17:30:00.123Z"},
		"milliseconds before 2001":     {"", "", "946684800000", "2000-01-01T00:00:00Z"},
		"the end of a day":             {"", "", "2026-11-01T24:00:00Z", "2026-11-02T00:00:00Z"},
		"a leap second":                {"", "", "2026-06-30T23:59:60Z", "2026-07-01T00:00:00Z"},
		"a leap second elsewhere":      {"", "", "2026-07-01T07:59:60+08:00", "2026-07-01T00:00:00Z"},
		"29 February":                  {"", "", "2028-02-29", "2028-02-28T16:00:00Z"},
		"white space around":           {"", "", " 2026-11-01\t", "2026-10-31T16:00:00Z"},
		"New York":                     {"%m/%d/%Y %I:%M:%S %p", "America/New_York", "02/28/2023 04:44:26 PM", "2023-02-28T21:44:26Z"},
		"Los Angeles":                  {"%m/%d/%y %H:%M", "America/Los_Angeles", "1/1/20 0:05", "2020-01-01T08:05:00Z"},
		"midnight of twelve hours":     {"%m/%d/%Y %I:%M %p", "UTC", "2/3/2023 12:05 am", "2023-02-03T00:05:00Z"},
		"day first":                    {"%d/%m/%Y", "UTC", "02/03/2023", "2023-03-02T00:00:00Z"},
		"names":                        {"%a, %d %b %Y %T %z", "", "Sun, 01 Nov 2026 01:30:00 +0800", "2026-10-31T17:30:00Z"},
		"a year of the last century":   {"%D", "UTC", "12/31/69", "1969-12-31T00:00:00Z"},
		"letters":                      {"%Y年%m月%d日 %R", "UTC", "2026年11月1日 1:30", "2026-11-01T01:30:00Z"},
		"a fraction":                   {"%FT%T.%f", "UTC", "2026-11-01T01:30:00.25", "2026-11-01T01:30:00.25Z"},
		"seconds, asked for":           {"unix", "", "1793467800", "2026-10-31T17:30:00Z"},
		"seconds with a fraction":      {"unix", "", "1793467800.5", "2026-10-31T17:30:00.5Z"},
		"microseconds, asked for":      {"unix_us", "", "1793467800123000", "2026-10-31T17:30:00.123Z"},
		"milliseconds, asked for":      {"unix_ms", "", "202611010130", "1976-06-03T00:50:10.13Z"},
		"twelve digits, asked for":     {"%Y%m%d%H%M", "", "202611010130", "2026-10-31T17:30:00Z"},
	} {
		got, err := parser(t, c.format, c.zone).Parse(c.text)
		want, werr := time.Parse(time.RFC3339Nano, c.want)
		if err != nil || werr != nil || !got.Equal(want) {
			t.Errorf("%s: %q is %v, %v; want %s", name, c.text, got.UTC(), err, c.want)
		}
	}
}

// TestRefusals: what is refused, why, and that the error says what was read.
func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		format, zone, text string
		why                error
		says               string
	}{
		"empty":                     {"", "", "", instant.ErrForm, `""`},
		"words":                     {"", "", "soon", instant.ErrForm, "2026-11-25"},
		"something behind":          {"", "", "2026-11-01 01:30 or so", instant.ErrForm, "or so"},
		"mixed separators":          {"", "", "2026-11/01", instant.ErrForm, ""},
		"not UTF-8":                 {"", "", "2026\xc4\xea", instant.ErrForm, "UTF-8"},
		"month first":               {"", "", "02/28/2023 04:44:26 PM", instant.ErrOrder, "%m/%d/%Y %I:%M:%S %p would fit"},
		"either first":              {"", "", "1/1/20 0:05", instant.ErrOrder, "%m/%d/%y %H:%M or %d/%m/%y %H:%M"},
		"the day first":             {"", "", "28.02.2023", instant.ErrOrder, "%d.%m.%Y would fit"},
		"a day too many":            {"", "", "2026-02-31", instant.ErrNoSuch, "February 2026 has 28 days"},
		"month 13":                  {"", "", "2026-13-01", instant.ErrNoSuch, "month 13"},
		"hour 25":                   {"", "", "2026-11-01T25:00:00Z", instant.ErrNoSuch, "25:00:00"},
		"behind the end of the day": {"", "", "2026-11-01T24:00:01Z", instant.ErrNoSuch, "24:00:01"},
		"second 60 in between":      {"", "", "2026-06-30T12:00:60Z", instant.ErrNoSuch, "leap second"},
		"hour 13 of twelve":         {"", "", "2026-11-01 13:30 PM", instant.ErrNoSuch, "hour 13"},
		"twice":                     {"", "America/New_York", "2026-11-01 01:30", instant.ErrTwice, "2026-11-01T01:30:00-04:00 and 2026-11-01T01:30:00-05:00"},
		"twice, by a format":        {"%m/%d/%Y %H:%M", "America/New_York", "11/01/2026 01:30", instant.ErrTwice, "America/New_York"},
		"skipped":                   {"", "America/New_York", "2026-03-08 02:30", instant.ErrSkipped, "has no 2026-03-08 02:30:00"},
		"a day that was skipped":    {"", "Pacific/Apia", "2011-12-30 12:00", instant.ErrSkipped, "Pacific/Apia"},
		"seconds":                   {"", "", "1793499000", instant.ErrImplausible, "1970-01-21T18:11:39Z: probably seconds: 2026-11-01T02:10:00Z (time format unix)"},
		"microseconds":              {"", "", "1793499000000000", instant.ErrImplausible, "probably microseconds: 2026-11-01"},
		"nanoseconds":               {"", "", "1793499000000000000", instant.ErrImplausible, "probably nanoseconds: 2026-11-01"},
		"a number of a day":         {"", "", "46327", instant.ErrImplausible, "spreadsheet's number of a day: 2026-11-01"},
		"nothing":                   {"", "", "0", instant.ErrImplausible, "there was none"},
		"a date of another month":   {"", "", "20261301", instant.ErrImplausible, "1970-01-01T05:37:41Z"},
		"twelve digits":             {"", "", "202611010130", instant.ErrImplausible, "%Y%m%d%H%M or unix_ms would fit"},
		"a date, as milliseconds":   {"unix_ms", "", "20261101", instant.ErrImplausible, "1970-01-01T05:37:41Z: probably the date 2026-11-01"},
		"milliseconds, as seconds":  {"unix", "", "1793499000000", instant.ErrImplausible, "probably milliseconds: 2026-11-01"},
		"too many digits":           {"", "", "17934990000000000000000", instant.ErrForm, "17934990000000000000000"},
		"where clocks begin":        {"", "", "1970-01-01T00:00:00Z", instant.ErrImplausible, "beginning of 1970"},
		"year 1":                    {"", "", "0001-01-01", instant.ErrImplausible, "1900"},
		"year 9999":                 {"", "", "9999-12-31", instant.ErrImplausible, "2199"},
		"not as the format":         {"%m/%d/%Y", "", "2023-02-28", instant.ErrForm, `no '/' at "23-02-28"`},
		"more than the format":      {"%m/%d/%Y", "", "02/28/2023 1:00", instant.ErrForm, `" 1:00" is left`},
		"no number":                 {"unix", "", "2026-11-01", instant.ErrForm, "want seconds"},
	} {
		got, err := parser(t, c.format, c.zone).Parse(c.text)
		var e *instant.Error
		if !errors.Is(err, c.why) || !errors.As(err, &e) || e.Text != c.text || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %q is %v, %v; want %v, saying %q", name, c.text, got, err, c.why, c.says)
		}
	}
}

func TestFormatsAndZones(t *testing.T) {
	for _, format := range []string{"MM/dd/yyyy", "%Y", "%q", "%", "%Y-%m-%d %I", "%Y-%m-%d %M", "%Y-%m-%d \xff%"} {
		if _, err := instant.New(instant.Options{Format: format}); !errors.Is(err, instant.ErrFormat) {
			t.Errorf("format %q: %v", format, err)
		}
	}
	for _, zone := range []string{"Local", "Nowhere/City", "+8", "../etc"} {
		if _, err := instant.Zone(zone); !errors.Is(err, instant.ErrFormat) {
			t.Errorf("zone %q: %v", zone, err)
		}
	}
	for zone, offset := range map[string]int{"": 8, "Asia/Shanghai": 8, "UTC": 0, "+08:00": 8, "-0500": -5} {
		z, err := instant.Zone(zone)
		if err != nil {
			t.Errorf("zone %q: %v", zone, err)
			continue
		}
		if _, got := time.Unix(0, 0).In(z).Zone(); got != offset*3600 {
			t.Errorf("zone %q: %d", zone, got)
		}
	}
}

// TestRoundTrip: what Go writes of a moment is read as that moment, in every form and
// zone, or refused as one that its zone has twice.
func TestRoundTrip(t *testing.T) {
	forms := map[string]string{ // Go's, and ours where it must be named
		time.RFC3339Nano: "", "2006-01-02T15:04:05.000Z0700": "", "2006-01-02 15:04:05.000 -07:00": "", "20060102T150405.000Z0700": "",
		"2006-01-02T15:04:05.000": "", "2006/1/2 3:04:05.000 PM": "", "2006年1月2日 15:04:05.000": "", "20060102T150405.000": "",
		"1/2/2006 3:04:05.000 PM": "%m/%d/%Y %I:%M:%S.%f %p", "02.01.06 15:04:05.000 -0700": "%d.%m.%y %T.%f %z", "Jan 2, 2006 15:04:05.000": "%b %d, %Y %T.%f",
	}
	names := []string{"", "UTC", "America/New_York", "Europe/London", "Australia/Lord_Howe", "Asia/Kathmandu"}
	rapid.Check(t, func(t *rapid.T) {
		zone, err := instant.Zone(rapid.SampledFrom(names).Draw(t, "zone"))
		if err != nil {
			t.Fatal(err)
		}
		at := time.UnixMilli(rapid.Int64Range(1, 3_100_000_000_000).Draw(t, "ms")).In(zone)
		for goes, ours := range forms {
			text := at.Format(goes)
			p, err := instant.New(instant.Options{Format: ours, Zone: zone})
			if err != nil {
				t.Fatal(err)
			}
			got, err := p.Parse(text)
			if errors.Is(err, instant.ErrTwice) && !strings.ContainsAny(goes, "Z7") {
				continue
			}
			if err != nil || !got.Equal(at) {
				t.Fatalf("%s wrote %q: read %v, %v", goes, text, got, err)
			}
		}
	})
}

// FuzzParse: whatever is read is a time of these centuries, one that reads the same
// when it is written by RFC 3339, and whatever is refused says what was read.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"2026-11-01T01:30:00Z", "2026年11月1日1时30分", "1/1/20 0:05", "1793499000", "20261101T013000Z", "2026-11-01 13:00 PM", "\xff", "下午"} {
		for _, format := range []string{"", "%m/%d/%Y %I:%M:%S %p", "unix", "%Y%%\xff"} {
			f.Add(text, format)
		}
	}
	zones := []*time.Location{nil}
	for _, name := range []string{"America/New_York", "Pacific/Apia"} {
		z, err := instant.Zone(name)
		if err != nil {
			f.Fatal(err)
		}
		zones = append(zones, z)
	}
	f.Fuzz(func(t *testing.T, text, format string) {
		for _, z := range zones {
			p, err := instant.New(instant.Options{Format: format, Zone: z})
			if err != nil {
				return
			}
			got, err := p.Parse(text)
			var e *instant.Error
			switch {
			case errors.As(err, &e):
				if e.Text != text || !slices.ContainsFunc([]error{
					instant.ErrForm, instant.ErrOrder, instant.ErrNoSuch, instant.ErrTwice, instant.ErrSkipped, instant.ErrImplausible,
				}, func(kind error) bool { return errors.Is(err, kind) }) {
					t.Fatalf("%q: %v", text, err)
				}
			case err != nil || got.UTC().Year() < 1900 || got.UTC().Year() > 2199:
				t.Fatalf("%q is %v, %v", text, got, err)
			default:
				if again, err := instant.Parse(got.UTC().Format(time.RFC3339Nano)); err != nil || !again.Equal(got) {
					t.Fatalf("%q is %v, then %v, %v", text, got, again, err)
				}
			}
		}
	})
}
