package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/tiers/event"
	"github.com/tiermesh/tiermesh/tiers/input"
)

// mappingOf makes the mapping of a command line.
func mappingOf(args ...string) (*mapping, error) {
	var m mapping
	var flags mappingFlags
	cmd := &cobra.Command{Use: "import", SilenceErrors: true, SilenceUsage: true, RunE: func(cmd *cobra.Command, _ []string) error { return flags.read(cmd, &m) }}
	flags.add(cmd, &m)
	cmd.Flags().String("time-zone", "", "")
	cmd.SetArgs(append([]string{}, args...))
	return &m, cmd.Execute()
}

// items are the rows of a file as a batch has them.
func items(text, name string, m *mapping) (out []event.Item, i *eventImport, err error) {
	i = &eventImport{m: *m, counts: map[string]int{}, types: map[string]bool{}}
	r, err := i.m.open(strings.NewReader(text), name, i.good)
	if err != nil {
		return nil, i, err
	}
	if err := i.m.begin(r.Header()); err != nil {
		return nil, i, err
	}
	for {
		row, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out, i, nil
		}
		if err != nil {
			return out, i, err
		}
		raw, err := i.item(row)
		if err != nil {
			return out, i, err
		}
		out = append(out, event.ParseItem(raw))
	}
}

// TestEventRows: rows become the reports that they and the mapping say.
func TestEventRows(t *testing.T) {
	dir := t.TempDir()
	values := filepath.Join(dir, "values.csv")
	if err := os.WriteFile(values, []byte("code,value\nN1,Rodent\nN0,*\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args       []string
		file, text string
		want       []string // a report's JSON, or ! and what is wrong with it
	}{
		"own columns": {nil, "a.csv", "\ufefftype, title ,lat,lon,priority,reported_at\n01001,\"a\nb\",29.5, 106.5,,2026-11-25\n01001,x,north,1,high,\n", []string{
			`{"type":"01001","title":"a\nb","lat":29.5,"lon":106.5,"priority":3,"reported_at_ms":1795536000000}`, "!lat is a string",
		}},
		"no default": {[]string{"--default-priority", "0"}, "a.csv", "type,title\na,b\n", []string{`{"type":"a","title":"b","priority":0,"reported_at_ms":0}`}},
		"mapped": {[]string{"--map", "title=What, now,type=Kind", "--map", "text=A+B", "--set", "channel=311,x", "--set", "type=t0"}, "a.csv",
			"Kind,\"What, now\",A,B,Else,None\n,b,c,d,e,\nk,b,,d,,\n", []string{
				`{"type":"t0","title":"b","text":"c d","priority":3,"channel":"311,x","reported_at_ms":0,"extra":{"Else":"e"}}`,
				`{"type":"k","title":"b","text":"d","priority":3,"channel":"311,x","reported_at_ms":0}`,
			}},
		"dropped": {[]string{"--drop-extra"}, "a.csv", "type,title,x\na,b,c\n", []string{`{"type":"a","title":"b","priority":3,"reported_at_ms":0}`}},
		"values": {[]string{"--map-values", "type=" + values, "--map", "title=title"}, "a.csv", "type,title\n Rodent,b\nCat,c\n", []string{
			`{"type":"N1","title":"b","priority":3,"reported_at_ms":0}`, `{"type":"N0","title":"c","priority":3,"reported_at_ms":0}`,
		}},
		"seconds": {[]string{"--time-format", "unix"}, "a.csv", "type,title,reported_at\na,b,1793467800\n", []string{`{"type":"a","title":"b","priority":3,"reported_at_ms":1793467800000}`}},
		"JSON": {nil, "a.json", `[{"type":"a","title":7,"lat":"1.5","lon":2,"priority":"2","reported_at":null},{"type":"a","title":{"b":1}},{"type":"a","title":"x","colour":"red"},7]`, []string{
			`{"type":"a","title":"7","lat":1.5,"lon":2,"priority":2,"reported_at_ms":0}`, "!title is a object", `!unknown field "colour"`, "!is no object",
		}},
		"JSON, mapped": {[]string{"--profile", "open311"}, "a.json", `[{"service_code":"p","service_name":"x","long":2,"lat":1,"status":"closed","media":{"a":[1]},"extra":null}]`, []string{
			`{"type":"p","title":"x","lat":1,"lon":2,"priority":3,"reported_at_ms":0,"extra":{"media":{"a":[1]},"status":"closed"}}`,
		}},
		"another zone": {[]string{"--time-zone", "America/New_York"}, "a.csv", "type,title,reported_at\na,b,2026-11-01 01:30\n", []string{"!twice"}},
	} {
		m, err := mappingOf(c.args...)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, _, err := items(c.text, c.file, m)
		if err != nil || len(got) != len(c.want) {
			t.Errorf("%s: %d rows, %v", name, len(got), err)
			continue
		}
		for i, want := range c.want {
			b, err := encodeJSON(got[i].Report)
			if bad, ok := strings.CutPrefix(want, "!"); ok {
				if got[i].Err == nil || !strings.Contains(got[i].Err.Error(), bad) {
					t.Errorf("%s, row %d: %v, want %q", name, i+1, got[i].Err, bad)
				}
			} else if err != nil || got[i].Err != nil || string(b) != want {
				t.Errorf("%s, row %d: %s, %v\nwant %s", name, i+1, b, got[i].Err, want)
			}
		}
	}
}

// TestTimeOfAnotherZone: a time that cannot be read in its zone is not held as one that
// a later release would read in another.
func TestTimeOfAnotherZone(t *testing.T) {
	m, err := mappingOf("--time-zone", "America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	got, _, err := items("type,title,reported_at\na,b,2026-11-01 01:30\n", "a.csv", m)
	if err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
	h, err := event.Hold(got[0].Raw, "", "", 1)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := h.Released(nil); err == nil || !strings.Contains(string(got[0].Raw), "2026-11-01 01:30 (America/New_York)") {
		t.Errorf("%s is released as %+v", got[0].Raw, r)
	}
	if r, err := h.Released(map[string]string{"reported_at": "2026-11-01T01:30:00-05:00"}); err != nil || r.Title != "b" {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestMappingRefusals: a mapping that cannot be meant says what is wrong.
func TestMappingRefusals(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.json")
	if err := os.WriteFile(bad, []byte(`{"colour":1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"want FIELD=COLUMN": {"--map", "title"}, `"colour" is no field`: {"--map", "colour=x"}, "want 1 (highest) to 4": {"--default-priority", "5"},
		"open311": {"--profile", "nowhere.json"}, "unknown field": {"--profile", bad}, "want FIELD=FILE": {"--map-values", "type"}, "no such file": {"--map-values", "type=nowhere.csv"},
		"want FIELD=VALUE": {"--set", "channel"}, "--time-zone": {"--time-zone", "Mars/Base"}, "--time-format": {"--time-format", "yyyy"},
	} {
		if _, err := mappingOf(args...); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", args, err, want)
		}
	}
	m, err := mappingOf("--map", "title=Nothing")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := items("type,title\na,b\n", "a.csv", m); !errors.Is(err, errInput) || !strings.Contains(err.Error(), `no column "Nothing"`) {
		t.Error(err)
	}
}

// TestProfiles: a mapping that was saved is the one that it was, and each built-in one
// is a mapping.
func TestProfiles(t *testing.T) {
	file := filepath.Join(t.TempDir(), "p.json")
	for _, name := range profileNames() {
		m, err := mappingOf("--profile", name, "--set", "grid=<g>", "--delimiter", ";")
		if err == nil {
			err = saveProfile(file, m)
		}
		if err != nil {
			t.Fatal(err)
		}
		again, err := mappingOf("--profile", file)
		if err != nil {
			t.Fatal(err)
		}
		a, err1 := json.Marshal(m)
		b, err2 := json.Marshal(again)
		if err1 != nil || err2 != nil || !bytes.Equal(a, b) || m.Set["grid"] != "<g>" || len(m.Map) < 5 {
			t.Errorf("%s: %s, then %s", name, a, b)
		}
	}
}

// TestImportAddsUp: however rows of a real file are damaged, each is an event, in
// quarantine or named, the counts add up, and rows that were not touched are events,
// but for those that two quotes made the text of a well-formed row.
func TestImportAddsUp(t *testing.T) {
	b, err := os.ReadFile("../../testbed/data/nyc311.csv")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.ReplaceAll(string(b), "\r", ""), "\n")
	rapid.Check(t, func(t *rapid.T) {
		rows := append([]string{}, lines[1:rapid.IntRange(2, 60).Draw(t, "rows")]...)
		whole := map[string]bool{}
		for i, row := range rows {
			if rapid.IntRange(0, 2).Draw(t, "harmed") > 0 {
				key, _, _ := strings.Cut(row, ",")
				whole[key] = true
				continue
			}
			at := rapid.IntRange(1, len(row)-1).Draw(t, "at")
			rows[i] = row[:at] + rapid.SampledFrom([]string{`"`, `,"`, "\x00", "\xff", ",", "\\", "/"}).Draw(t, "with") + row[at+rapid.IntRange(0, 1).Draw(t, "less"):]
		}
		m, err := mappingOf("--profile", "nyc311", "--set", "title=-")
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		cmd := &cobra.Command{}
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		i := &eventImport{g: &global{}, cmd: cmd, m: *m, counts: map[string]int{}, types: map[string]bool{}}
		r, err := i.m.open(strings.NewReader(lines[0]+"\n"+strings.Join(rows, "\n")), "x.csv", i.good)
		if err != nil {
			t.Fatal(err)
		}
		if err := i.m.begin(r.Header()); err != nil {
			t.Fatal(err)
		}
		events := map[string]bool{}
		read := 0
		if err := i.all(r, func() error {
			got, err := event.ParseBatch(i.body.Bytes(), true)
			for _, it := range got {
				events[it.Report.SourceKey] = it.Err == nil
			}
			read += len(got)
			return errors.Join(err, i.check())
		}); err != nil {
			t.Fatal(err)
		}
		if sum := i.counts[api.OutcomeDone] + i.counts[api.OutcomeQuarantined] + i.counts[api.OutcomeRejected]; sum != i.rows || read != i.rows {
			t.Fatalf("%d rows, %d sent: %v", i.rows, read, i.counts)
		}
		quoted := overLines(t, lines[0]+"\n"+strings.Join(rows, "\n"))
		for key := range whole {
			if !events[key] && !strings.Contains(quoted, key+",") {
				t.Fatalf("row %s is lost:\n%s", key, strings.Join(rows, "\n"))
			}
		}
		if named := strings.Count(out.String(), "line "); named != i.counts[api.OutcomeQuarantined]+i.counts[api.OutcomeRejected] {
			t.Fatalf("%d are named of %v", named, i.counts)
		}
		if i.rows > len(rows) {
			t.Fatal(fmt.Errorf("%d rows of %d", i.rows, len(rows)))
		}
	})
}

// overLines is the text of the rows of CSV that go over lines. The standard library
// reads each of them as a row, too.
func overLines(t *rapid.T, text string) (out string) {
	r, err := input.Open(strings.NewReader(text), input.Options{Format: input.CSV})
	for err == nil {
		var row input.Row
		if row, err = r.Next(); err != nil || row.Err != nil || row.Lines == 1 {
			continue
		}
		cells, bad := csv.NewReader(bytes.NewReader(row.Raw)).ReadAll()
		if bad != nil || len(cells) != 1 || len(cells[0]) != len(r.Header()) {
			t.Fatalf("%q is no row: %v", row.Raw, bad)
		}
		out += string(row.Raw)
	}
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return out
}

// FuzzEventRows: no file ends the readers, and each row that they find stands on one
// line, so that the rows of a batch stay apart.
func FuzzEventRows(f *testing.F) {
	f.Add([]byte("type,title,priority,reported_at\n01001,\"a\nb\",x,2026-11-25\n"), "a.csv")
	f.Add([]byte(`[{"type":"a"},7]`), "a.json")
	f.Add([]byte("{\"reported_at\":\"2026-11-25\"}\n\xff\n"), "a.ndjson")
	f.Fuzz(func(t *testing.T, b []byte, name string) {
		m, err := mappingOf("--map", "title=title")
		if err != nil {
			t.Fatal(err)
		}
		i := &eventImport{m: *m, types: map[string]bool{}}
		r, err := i.m.open(bytes.NewReader(b), name, i.good)
		if err != nil || i.m.begin(r.Header()) != nil {
			return
		}
		var batch bytes.Buffer
		rows := 0
		for rows < event.BatchMax {
			row, err := r.Next()
			if errors.Is(err, io.EOF) || errors.Is(err, input.ErrFile) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			raw, err := i.item(row)
			if err != nil || len(bytes.TrimSpace(raw)) == 0 {
				t.Fatalf("%q: %q, %v", row.Raw, raw, err)
			}
			rows++
			batch.Write(raw)
			batch.WriteByte('\n')
		}
		if rows == 0 || batch.Len() > event.BatchBytesMax {
			return
		}
		if got, err := event.ParseBatch(batch.Bytes(), true); err != nil || len(got) != rows {
			t.Fatalf("%d rows became %d reports, %v", rows, len(got), err)
		}
	})
}
