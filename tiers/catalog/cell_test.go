package catalog_test

import (
	"bytes"
	"encoding/csv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/tiers/catalog"
)

// TestExportIsSafeInASpreadsheet: no cell of an exported file is carried out as a
// formula, numbers stay numbers, and what is read back is what was written.
func TestExportIsSafeInASpreadsheet(t *testing.T) {
	c, ok := catalog.Find("boards")
	if !ok {
		t.Fatal("no catalog of boards")
	}
	export := func(t *rapid.T, name string) []byte {
		var b bytes.Buffer
		w, err := c.NewRowWriter(&b, catalog.CSV)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Write(catalog.Fields{"code": "a", "name": name}); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	try := func(t *rapid.T, name string) string {
		file := export(t, name)
		rows, err := csv.NewReader(bytes.NewReader(file)).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		var cell string
		for i, column := range rows[0] {
			if column == "name" {
				cell = rows[1][i]
			}
		}
		if err := readRows(c, bytes.NewReader(file), catalog.CSV, func(r catalog.Row, bad *catalog.Problem) error {
			if want := strings.ReplaceAll(name, "\r\n", "\n"); bad != nil || r.Fields["name"] != want { // as encoding/csv reads
				t.Fatalf("%q came back as %q (%v)", name, r.Fields["name"], bad)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return cell
	}
	rapid.Check(t, func(t *rapid.T) {
		for name, want := range map[string]string{"=1+1": "'=1+1", "@SUM(A1)": "'@SUM(A1)", "\tx": "'\tx", "-5": "-5", "+1.5e3": "+1.5e3", "-5+cmd": "'-5+cmd", "'=x": "''=x", "'x": "'x", "＝1": "'＝1"} {
			if got := try(t, name); got != want {
				t.Fatalf("%q is written as %q, want %q", name, got, want)
			}
		}
		try(t, rapid.StringOf(rapid.RuneFrom([]rune("'=+-@\t1.ea＝党"))).Draw(t, "name"))
	})
}
