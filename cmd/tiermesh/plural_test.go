package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// numbered is a number in a format with a word behind it that is a plural.
var numbered = regexp.MustCompile(`(\S* ?\S*) ?%d ((?:new|open) )?([a-z]{3,}s)\b`)

// alwaysSo are words that do not change, and what may stand before a number that is a
// bound, which is never one.
var (
	alwaysSo = []string{"series", "was", "has", "this"}
	bounds   = []string{"want", "most", "than", "takes", "to"}
)

// plural returns the first word of a format that is wrong where its number is one.
func plural(format string) string {
	for _, m := range numbered.FindAllStringSubmatch(format, -1) {
		before := strings.Fields(m[1])
		if !slices.Contains(alwaysSo, m[3]) && (len(before) == 0 || !slices.Contains(bounds, before[len(before)-1])) {
			return m[3]
		}
	}
	return ""
}

// TestPlurals: no text of this command puts a plural behind a number that may be one;
// count writes such.
func TestPlurals(t *testing.T) {
	for format, want := range map[string]string{
		"%d rows": "rows", "of %d new records": "records", "at most %d rows": "", "%d series": "", "%s: %d events open": "events", "%d ms": "", "row %d has it": "",
	} {
		if got := plural(format); got != want {
			t.Errorf("%q: %q, want %q", format, got, want)
		}
	}
	for n, want := range map[int]string{0: "0 rows", 1: "1 row", 2: "2 rows"} {
		if got := count(n, "row"); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if one, two := count(1, "entry"), count(int64(2), "entry"); one != "1 entry" || two != "2 entries" {
		t.Errorf("%q, %q", one, two)
	}
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	texts, set := 0, token.NewFileSet()
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		parsed, err := parser.ParseFile(set, f.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			lit, ok := n.(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			text, err := strconv.Unquote(lit.Value)
			if err != nil {
				t.Fatal(err)
			}
			texts++
			if word := plural(text); word != "" {
				t.Errorf("%s: %q: %q is wrong of one; see count", set.Position(lit.Pos()), text, word)
			}
			return true
		})
	}
	if texts < 1000 {
		t.Errorf("%d texts were looked at", texts)
	}
}
