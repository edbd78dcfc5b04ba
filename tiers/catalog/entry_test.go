package catalog_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/catalog"
	"github.com/tiermesh/tiermesh/tiers/input"
)

// TestSchemas: names, kinds and fields are unique, documents can be named, and what
// a catalog refers to is imported before it.
func TestSchemas(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range catalog.Catalogs() {
		if seen[c.Name] || seen["kind "+c.Kind] || tiers.NewDocID(c.Kind, "x").Validate() != nil || c.Chinese == "" {
			t.Errorf("catalog %s of kind %s", c.Name, c.Kind)
		}
		seen[c.Name], seen["kind "+c.Kind] = true, true
		fields := map[string]bool{}
		for _, f := range c.Fields {
			if fields[f.Name] || f.Ref != "" && !seen[f.Ref] || f.Max <= f.Min {
				t.Errorf("field %s of %s", f.Name, c.Name)
			}
			fields[f.Name] = true
		}
		if found, ok := catalog.OfKind(c.Kind); !ok || found.Name != c.Name {
			t.Errorf("kind %s", c.Kind)
		}
		if tiers.NewDocID(c.Kind, strings.Repeat("x", 80)).Validate() != nil {
			t.Errorf("kind %s leaves no room for a code", c.Kind)
		}
	}
}

// drawValue draws a good value of a field.
func drawValue(t *rapid.T, f catalog.Field) string {
	word := rapid.StringMatching(`[a-z0-9]{1,6}`)
	switch f.Type {
	case catalog.Int:
		return strconv.FormatInt(rapid.Int64Range(int64(f.Min), int64(f.Max)).Draw(t, f.Name), 10)
	case catalog.Number:
		return strconv.FormatFloat(rapid.Float64Range(f.Min, f.Max).Draw(t, f.Name), 'g', -1, 64)
	case catalog.Enum:
		return rapid.SampledFrom(f.Values).Draw(t, f.Name)
	case catalog.Bool:
		return rapid.SampledFrom([]string{"true", "false"}).Draw(t, f.Name)
	case catalog.List:
		if len(f.Values) > 0 {
			word = rapid.SampledFrom(f.Values)
		}
		return strings.Join(rapid.SliceOfN(word, 1, 3).Draw(t, f.Name), "  ")
	case catalog.Nested:
		return rapid.SampledFrom([]string{`[{"a": "<&>", "b": [1, 2]}]`, `{"行": null}`, "[]"}).Draw(t, f.Name)
	case catalog.Semver:
		return rapid.StringMatching(`(0|[1-9][0-9]?)\.(0|[1-9])\.(0|[1-9])(-rc\.[1-9])?`).Draw(t, f.Name)
	case catalog.Text:
	}
	s := rapid.StringOfN(rapid.SampledFrom([]rune("ab 部件,\"\n\r;'=<&>\ufeff\u2028")), 1, 12, -1).Draw(t, f.Name)
	if tiers.Blank(s) && f.Required {
		return "x"
	}
	return s
}

// drawRow draws a good row.
func drawRow(t *rapid.T, c *catalog.Catalog) catalog.Row {
	r := catalog.Row{Row: 1, Fields: catalog.Fields{}}
	for _, f := range c.Fields {
		if f.Required || rapid.Bool().Draw(t, "has "+f.Name) {
			r.Fields[f.Name] = drawValue(t, f)
		}
	}
	r.Fields["code"] = rapid.StringMatching(`[A-Za-z0-9._-]{1,20}`).Draw(t, "code")
	if (r.Fields["lat"] == "") != (r.Fields["lon"] == "") {
		delete(r.Fields, "lat")
		delete(r.Fields, "lon")
	}
	if c.Name == catalog.Apps {
		r.Fields["app"] = "app"
		r.Fields["code"] = catalog.AppCode("app", r.Fields["version"])
	}
	return r
}

// TestExportImports: for every catalog and both formats, reading what was written
// changes nothing.
func TestExportImports(t *testing.T) {
	for _, c := range catalog.Catalogs() {
		t.Run(c.Name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				var all []catalog.Fields
				for range rapid.IntRange(0, 4).Draw(t, "entries") {
					f, bad := c.Merge(nil, drawRow(t, c))
					if len(bad) > 0 {
						t.Fatal(bad)
					}
					all = append(all, f)
				}
				for _, format := range []string{catalog.CSV, catalog.JSON} {
					var b bytes.Buffer
					w, err := c.NewRowWriter(&b, format)
					if err != nil {
						t.Fatal(err)
					}
					for _, f := range all {
						if err := w.Write(f); err != nil {
							t.Fatal(err)
						}
					}
					if err := w.Close(); err != nil {
						t.Fatal(err)
					}
					n := 0
					err = readRows(c, &b, format, func(r catalog.Row, bad *catalog.Problem) error {
						if bad != nil {
							t.Fatalf("%s: %v", format, bad)
						}
						after, problems := c.Merge(all[n], r)
						if len(problems) > 0 || !after.Equal(all[n]) {
							t.Fatalf("%s: %v became %v (%v)", format, all[n], after, problems)
						}
						fresh, problems := c.Merge(nil, r)
						if len(problems) > 0 || fresh.Sum() != all[n].Sum() {
							t.Fatalf("%s: elsewhere %v becomes %v (%v)", format, all[n], fresh, problems)
						}
						n++
						return nil
					})
					if err != nil || n != len(all) {
						t.Fatalf("%s: %d of %d rows, %v", format, n, len(all), err)
					}
				}
			})
		})
	}
}

// readRows reads a file of a format.
func readRows(c *catalog.Catalog, in io.Reader, format string, f func(catalog.Row, *catalog.Problem) error) error {
	rows, err := input.Open(in, input.Options{Format: format})
	if err != nil {
		return fmt.Errorf("%w: %w", catalog.ErrFile, err)
	}
	return c.ReadRows(rows, f)
}

// TestRowProblems: each bad value is named with its row, field and what is allowed.
func TestRowProblems(t *testing.T) {
	for name, x := range map[string]struct {
		catalog, file string
		want          []string
	}{
		"a megabyte":       {"types", "code,category,name\n1,c," + strings.Repeat("x", 1<<20) + "\n", []string{"row 2: row", "1048581 bytes: want at most 1048576"}},
		"a long name":      {"types", "code,category,name\n1,c," + strings.Repeat("x", 1<<18) + "\n", []string{"row 2: name", "at most 512 bytes, not 262144"}},
		"control":          {"types", "code,category,name\n1,c,a\x1fb\n", []string{"UTF-8 without control characters"}},
		"zero byte":        {"types", "code,category,name\n1,c,a\x00b\n", []string{"a zero byte"}},
		"not UTF-8":        {"types", "code,category,name\n1,c,\xff\n", []string{"not UTF-8"}},
		"GBK":              {"types", "code,category,name\n02001,\xca\xd0\xc8\xdd,\xb1\xa9\n", []string{"row 2", "--encoding gb18030"}},
		"code":             {"types", "code,category,name\na/b,c,n\n", []string{`code "a/b": want letters, digits`}},
		"long code":        {"types", "code,category,name\n" + strings.Repeat("a", 81) + ",c,n\n", []string{"at most 80 bytes"}},
		"nothing":          {"types", "code\n\"\"\n", []string{`code "": want a value`, `category "": want a value`, `name "": want a value`}},
		"whole number":     {"types", "code,category,name,priority\n1,c,n,1.5\n", []string{`priority "1.5": want a whole number from 1 to 4`}},
		"not a number":     {"components", "code,name,category,lat,lon\n1,n,c,NaN,0\n", []string{`lat "NaN": want a number from -90 to 90`}},
		"half a point":     {"components", "code,name,category,lat\n1,n,c,30\n", []string{"lat and lon both, or neither"}},
		"enum":             {"sensors", "code,name,kind\n1,n,nose\n", []string{`kind "nose": want one of camera, sensor`}},
		"word of a list":   {"organs", "code,name,tiers\n1,n,city moon\n", []string{"words of city, district, township"}},
		"nested":           {"plans", "code,steps\n1,[1\n", []string{"a JSON array or object"}},
		"nested text":      {"plans", "code,steps\n1,\"\"\"x\"\"\"\n", []string{"a JSON array or object"}},
		"retired":          {"boards", "code,name,retired\n1,n,maybe\n", []string{"true, false or nothing"}},
		"version":          {"apps", "code,app,version,name\na_1.0,a,1.0,n\n", []string{`version "1.0": want a version such as`}},
		"build metadata":   {"apps", "code,app,version,name\na_1,a,1.0.0+b,n\n", []string{`version "1.0.0+b"`}},
		"code of a app":    {"apps", "code,app,version,name\na,a,1.0.0,n\n", []string{"want the application and the version, as a_1.0.0"}},
		"needs":            {"apps", "code,app,version,name,needs\na_1.0.0,a,1.0.0,n,b>=2\n", []string{`needs "b>=2": want NAME or NAME>=1.2.0`}},
		"cells":            {"boards", "code,name\n1\n2,b\n", []string{`row 2: row "1": want a row that can be read: 1 columns: want 2`}},
		"quote":            {"boards", "code,name\n1,\"a\"b\n", []string{`row 2: row "1,\"a\"b"`, "closing quote"}},
		"value of JSON":    {"boards", `[{"code":"1","name":{"a":1}}]`, []string{`name "{\"a\":1}": want a text`}},
		"row of JSON":      {"boards", `[1]`, []string{"is no object"}},
		"unknown of JSON":  {"boards", `{"code":"1","name":"n","colour":"red"}`, []string{`colour "red": want one of the fields code, name, tier, retired`}},
		"list with blanks": {"organs", `[{"code":"1","name":"n","types":["a b"]}]`, []string{"an array of texts"}},
	} {
		t.Run(name, func(t *testing.T) {
			c, ok := catalog.Find(x.catalog)
			if !ok {
				t.Fatal(x.catalog)
			}
			format := catalog.CSV
			if strings.ContainsAny(x.file[:1], "[{") {
				format = catalog.JSON
			}
			var got []string
			err := readRows(c, strings.NewReader(x.file), format, func(r catalog.Row, bad *catalog.Problem) error {
				if bad != nil {
					got = append(got, bad.String())
					return nil
				}
				_, problems := c.Merge(nil, r)
				for _, p := range problems {
					if !errors.Is(p.Err(), catalog.ErrInvalid) {
						t.Error(p)
					}
					got = append(got, p.String())
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range x.want {
				if !slices.ContainsFunc(got, func(s string) bool { return strings.Contains(s, want) }) {
					t.Errorf("%.300q does not say %q", got, want)
				}
			}
		})
	}
}

// TestFileRefusals: a file of which no row can be read is refused whole.
func TestFileRefusals(t *testing.T) {
	c, _ := catalog.Find(catalog.Boards)
	for _, x := range []struct{ format, file, want string }{
		{catalog.CSV, "", "header"}, {catalog.CSV, "name\n", "no column code"}, {catalog.CSV, "code,code\n", "columns 1 and 2 are both"},
		{catalog.CSV, "code,colour\n", `column "colour"`}, {catalog.JSON, "[{}", "the file may be cut off"},
		{"xlsx", "x", "want csv, json or ndjson"}, {catalog.CSV, "\xb1\xe0,code\n", "--encoding gb18030"},
	} {
		err := readRows(c, strings.NewReader(x.file), x.format, func(catalog.Row, *catalog.Problem) error { return nil })
		if !errors.Is(err, catalog.ErrFile) || !strings.Contains(err.Error(), x.want) {
			t.Errorf("%s %q: %v", x.format, x.file, err)
		}
	}
	if _, err := c.NewRowWriter(nil, "xlsx"); !errors.Is(err, catalog.ErrFile) {
		t.Error(err)
	}
	stop := errors.New("stop")
	for format, file := range map[string]string{catalog.CSV: "code\n1\n", catalog.JSON: `{"code":"1"}`} {
		if err := readRows(c, strings.NewReader(file), format, func(catalog.Row, *catalog.Problem) error { return stop }); !errors.Is(err, stop) {
			t.Error(err)
		}
	}
}

// TestMerge: what a row does not give stays, what it gives as empty goes, and
// defaults are of new entries only.
func TestMerge(t *testing.T) {
	c, _ := catalog.Find(catalog.Rules)
	row := catalog.Row{Fields: catalog.Fields{"code": "r", "organ": "o", "limit_amount": " 2 ", "limit_unit": "day", "skill": "fire"}}
	first, bad := c.Merge(nil, row)
	want := catalog.Fields{"code": "r", "organ": "o", "limit_amount": "2", "limit_unit": "day", "skill": "fire", "order": "0", "priority_max": "0"}
	if len(bad) > 0 || !maps.Equal(first, want) {
		t.Fatalf("%v, %v", first, bad)
	}
	second, bad := c.Merge(first, catalog.Row{Fields: catalog.Fields{"code": "r", "skill": "", "order": "7"}})
	want["order"] = "7"
	delete(want, "skill")
	if len(bad) > 0 || !maps.Equal(second, want) {
		t.Fatalf("%v, %v", second, bad)
	}
	if ops := catalog.Ops(first, second); len(ops) != 2 || ops[0] != (crdt.Op{Kind: crdt.OpPut, Key: "order", Value: "7"}) || ops[1].Value != "" {
		t.Errorf("%v", ops)
	}
	if _, bad := c.Merge(first, catalog.Row{Fields: catalog.Fields{"code": "r", "organ": ""}}); len(bad) != 1 || bad[0].Field != "organ" {
		t.Errorf("%v", bad)
	}
}

// TestSums: a sum tells entries apart, and does not depend on their order.
func TestSums(t *testing.T) {
	a, b := catalog.Fields{"code": "a", "name": "xy"}, catalog.Fields{"code": "a", "name": "x", "y": ""}
	if a.Sum() == b.Sum() || b.Sum() != (catalog.Fields{"code": "a", "name": "x"}).Sum() || (catalog.Fields{"ab": "c"}).Sum() == (catalog.Fields{"a": "bc"}).Sum() {
		t.Error("sums of entries")
	}
	one := catalog.Sum(map[string]crdt.Hash{"a": a.Sum(), "b": b.Sum()})
	if one == catalog.Sum(map[string]crdt.Hash{"a": b.Sum(), "b": a.Sum()}) || one == catalog.Sum(map[string]crdt.Hash{"a": a.Sum()}) {
		t.Error("sums of catalogs")
	}
}

// TestUsed: what names a version reads back.
func TestUsed(t *testing.T) {
	for _, after := range []bool{false, true} {
		site, number, a, err := catalog.ParseUsed(catalog.NewUsed("500101", 12, after))
		if err != nil || site != "500101" || number != 12 || a != after {
			t.Errorf("%s %d %v %v", site, number, a, err)
		}
	}
	for _, s := range []catalog.Used{"", "500101", "5 1/2", "500101/x", "500101/-1", "/1"} {
		if _, _, _, err := catalog.ParseUsed(s); !errors.Is(err, catalog.ErrInvalid) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

// TestMayHandle: an organ may do what its mandate says, and anything where that is
// silent.
func TestMayHandle(t *testing.T) {
	o := catalog.OrganOf(catalog.Fields{"code": "o", "tiers": "district township", "types": "01 0203", "roles": "lead"})
	for _, x := range []struct {
		role, typ string
		tier      tiers.Tier
		want      string
	}{
		{"lead", "01001", tiers.TierDistrict, ""}, {"", "", 0, ""}, {"lead", "0203", tiers.TierTownship, ""},
		{"co", "01001", tiers.TierDistrict, "as co: it may be lead"}, {"lead", "02", tiers.TierDistrict, "type 02: it handles those that begin with 01, 0203"},
		{"lead", "01001", tiers.TierCity, "at tier city: it acts at district, township"},
	} {
		err := catalog.MayHandle(o, x.role, x.typ, x.tier)
		if x.want == "" && err != nil || x.want != "" && (err == nil || !strings.Contains(err.Error(), x.want)) {
			t.Errorf("%+v: %v", x, err)
		}
	}
	if err := catalog.MayHandle(catalog.Organ{}, "co", "9", tiers.TierCity); err != nil {
		t.Error(err)
	}
	if err := catalog.MayHandle(catalog.Organ{Retired: true}, "", "", 0); !errors.Is(err, catalog.ErrInvalid) {
		t.Error(err)
	}
	for prefix, good := range map[string]bool{"": true, "0": true, "01": true, "01001": true, "02": true, "0204": false, "9": false} {
		if err := catalog.MayHandleSome(o, "lead", prefix, tiers.TierCity, tiers.TierTownship); (err == nil) != good {
			t.Errorf("prefix %q: %v", prefix, err)
		}
	}
	if err := catalog.MayHandleSome(o, "lead", "01", tiers.TierCity); err == nil {
		t.Error("at no tier")
	}
}

// FuzzRows: no bytes make the reader fail other than with its errors, and what it
// takes in good form comes back from an export.
func FuzzRows(f *testing.F) {
	f.Add([]byte("code,name\n1,党建\n"), false, uint8(0))
	f.Add([]byte("\xef\xbb\xbfcode,steps\n1,\"[{}]\"\n"), false, uint8(6))
	f.Add([]byte(`[{"code":"a_1.0.0","app":"a","version":"1.0.0","name":"x","needs":["b>=1.0.0"],"cpu_cores":1e3}]`), true, uint8(10))
	f.Add([]byte(`{"code":"1","name":"n","lat":1,"lon":2,"category":"c"} {"code":null}`), true, uint8(4))
	f.Fuzz(func(t *testing.T, b []byte, asJSON bool, which uint8) {
		all := catalog.Catalogs()
		c, format := all[int(which)%len(all)], catalog.CSV
		if asJSON {
			format = catalog.JSON
		}
		var out bytes.Buffer
		w, err := c.NewRowWriter(&out, format)
		if err != nil {
			t.Fatal(err)
		}
		var good []catalog.Fields
		err = readRows(c, bytes.NewReader(b), format, func(r catalog.Row, bad *catalog.Problem) error {
			if bad != nil {
				return nil
			}
			f, problems := c.Merge(nil, r)
			if len(problems) > 0 {
				return nil
			}
			good = append(good, f)
			return w.Write(f)
		})
		if err != nil && !errors.Is(err, catalog.ErrFile) {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		n := 0
		err = readRows(c, &out, format, func(r catalog.Row, bad *catalog.Problem) error {
			if f, problems := c.Merge(nil, r); bad != nil || len(problems) > 0 || !f.Equal(good[n]) {
				t.Fatalf("%v became %v: %v %v", good[n], f, bad, problems)
			}
			n++
			return nil
		})
		if err != nil || n != len(good) {
			t.Fatalf("%d of %d, %v", n, len(good), err)
		}
	})
}
