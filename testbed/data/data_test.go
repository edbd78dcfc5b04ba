package data_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/tiermesh/tiermesh/testbed/data"
)

// count reads to the end and returns the good rows and those set aside.
func count(t *testing.T, in io.Reader) (good []data.Request, bad []*data.RowError) {
	t.Helper()
	q := data.Requests(in)
	for {
		r, err := q.Next()
		var row *data.RowError
		switch {
		case errors.Is(err, io.EOF):
			return good, bad
		case errors.As(err, &row):
			bad = append(bad, row)
		case err != nil:
			t.Fatal(err)
		default:
			good = append(good, r)
		}
	}
}

// TestBuiltIn pins what the built-in file holds: the figures that the demo
// shows rest on it.
func TestBuiltIn(t *testing.T) {
	good, bad := count(t, data.NYC311())
	reasons := map[string]int{}
	for _, b := range bad {
		reasons[strings.Fields(b.Reason)[0]]++
	}
	if len(good) != 2493 || reasons["closed"] != 2 || reasons["no"] != 5 || len(bad) != 7 {
		t.Errorf("%d good rows, %d bad: %v", len(good), len(bad), reasons)
	}
	types, err := data.EventTypes()
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, x := range types {
		if known[x.Code] {
			t.Errorf("type %s is listed twice", x.Code)
		}
		known[x.Code] = true
	}
	for _, r := range good {
		if !known[data.TypeCode(r.Type)] {
			t.Errorf("type %q of %s has no entry", r.Type, r.Key)
		}
	}
	districts, err := data.Districts()
	if err != nil || len(districts) != 38 {
		t.Errorf("%d districts, %v", len(districts), err)
	}
	townships, err := data.Townships()
	if err != nil || len(townships) != 1031 {
		t.Errorf("%d townships, %v", len(townships), err)
	}
	of := map[string]bool{}
	for _, d := range districts {
		of[string(d.Code)] = true
	}
	for _, x := range townships {
		if !of[string(x.District)] {
			t.Errorf("township %s is in district %s, which is not there", x.Code, x.District)
		}
	}
}

const header = "unique_key,created_date,closed_date,agency,complaint_type,descriptor,incident_zip,status,due_date,resolution_action_updated_date,community_board,borough,open_data_channel_type,latitude,longitude\n"

func row(key, created, closed, zip, lat, lon string) string {
	return strings.Join([]string{key, created, closed, "DOT", "Pothole", "d", zip, "Open", "", "", "01", "BRONX", "PHONE", lat, lon}, ",") + "\n"
}

const noon = "02/01/2024 12:00:00 PM"

func TestBadRowsAreSetAside(t *testing.T) {
	fine := row("2", noon, "", "10001", "", "")
	for name, x := range map[string]struct {
		text, want string
		line       int
	}{
		"closed before created": {row("1", noon, "02/01/2024 11:00:00 AM", "10001", "", ""), "before it was created", 2},
		"no place":              {row("1", noon, "", "", "", ""), "no place", 2},
		"half a point":          {row("1", noon, "", "", "40.1", ""), "coordinates", 2},
		"off the globe":         {row("1", noon, "", "", "140.1", "0"), "coordinates", 2},
		"not a time":            {row("1", "yesterday", "", "10001", "", ""), "not a time", 2},
		"no key":                {row("", noon, "", "10001", "", ""), "no key", 2},
		"too few columns":       {"1,2,3\n", "3 columns", 2},
		"1 MB field":            {row("1", noon, "", strings.Repeat("9", 1<<20), "", ""), "longer than", 2},
		"long field":            {row("1", noon, "", strings.Repeat("9", 17<<10), "", ""), "bytes long", 2},
		"broken UTF-8":          {row("1", noon, "", "10\xff01", "", ""), "UTF-8", 2},
		"zero byte":             {row("1", noon, "", "10\x0001", "", ""), "zero byte", 2},
		"stray quote":           {row("1", noon, "", "\"10001", "", ""), "does not end", 2},
		"quote inside":          {row("1", noon, "", "10\"0\"01", "", ""), "bad quoting", 2},
		"behind blank lines":    {"\n\n" + row("1", noon, "", "", "", ""), "no place", 4},
	} {
		t.Run(name, func(t *testing.T) {
			good, bad := count(t, strings.NewReader(header+x.text+fine+fine))
			if len(bad) != 1 || bad[0].Line != x.line || !strings.Contains(bad[0].Reason, x.want) {
				t.Errorf("set aside %v, want line %d with %q", bad, x.line, x.want)
			}
			if len(good) != 2 || good[0].Key != "2" {
				t.Errorf("%d good rows behind it: %v", len(good), good)
			}
		})
	}
}

func TestGoodRow(t *testing.T) {
	text := header + strings.Replace(row("7", noon, "", "10001", "40.5", "-73.5"), "BRONX", "\"THE\nBRONX\"", 1)
	good, bad := count(t, strings.NewReader(strings.TrimSuffix(text, "\n")))
	if len(good) != 1 || len(bad) != 0 {
		t.Fatalf("%v, %v", good, bad)
	}
	if r := good[0]; r.Key != "7" || r.Place != "THE BRONX 01 10001" || !r.HasPoint || r.Lat != 40.5 || r.Created.UTC().Hour() != 17 {
		t.Errorf("%+v", r)
	}
	if got := data.TypeCode("HEAT/HOT WATER (New)"); got != "nyc-heat-hot-water-new" {
		t.Errorf("type code %s", got)
	}
}

// FuzzRequests: whatever the file holds, reading ends, and every row is good
// or set aside under its line.
func FuzzRequests(f *testing.F) {
	f.Add([]byte(header + row("1", noon, "", "10001", "", "")))
	f.Add([]byte("\"\n\"\n\"a"))
	f.Fuzz(func(t *testing.T, b []byte) {
		good, bad := count(t, strings.NewReader(string(b)))
		lines := strings.Count(string(b), "\n") + 1
		if len(good)+len(bad) > lines {
			t.Fatalf("%d rows from %d lines", len(good)+len(bad), lines)
		}
		for _, x := range bad {
			if x.Line < 1 || x.Line > lines || x.Reason == "" {
				t.Fatalf("%+v in %d lines", x, lines)
			}
		}
	})
}
