package catalog

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// Fields are an entry's values by the names of its fields. One that is not there
// is empty.
type Fields map[string]string

// Row is a row of an import: the fields that it gives. One that it does not give
// stays what it is; one that it gives as empty is emptied.
type Row struct {
	// Row is where it stands in what it comes from, for the errors.
	Row    int    `json:"row"`
	Fields Fields `json:"fields"`
}

// Problem says what is wrong with one field of a row.
type Problem struct {
	Row   int    `json:"row"`
	Code  string `json:"code,omitempty"`
	Field string `json:"field"`
	Value string `json:"value"`
	// Want is what is allowed, or else Why what is wrong.
	Want string `json:"want,omitempty"`
	Why  string `json:"why,omitempty"`
}

// String says it in one line.
func (p Problem) String() string {
	if p.Why != "" {
		return fmt.Sprintf("row %d: %s %.64q: %s", p.Row, p.Field, p.Value, p.Why)
	}
	return fmt.Sprintf("row %d: %s %.64q: want %s", p.Row, p.Field, p.Value, p.Want)
}

// Err returns the problem as an error, which wraps [ErrInvalid].
func (p Problem) Err() error { return fmt.Errorf("%w: %s", ErrInvalid, p) }

// Entry is an entry of a catalog as a site shows it.
type Entry struct {
	Code string `json:"code"`
	// Site is whose catalog it stands in.
	Site   tiers.SiteID `json:"site"`
	Fields Fields       `json:"fields"`
	// Conflicts are fields that several wrote without seeing each other.
	Conflicts []crdt.Conflict `json:"conflicts,omitempty"`
}

// Retired reports whether the entry is no longer to be used.
func (e Entry) Retired() bool { return e.Fields[Retired] == "true" }

// EntryFromView reads an entry back from its view. The error wraps [ErrInvalid].
func EntryFromView(b []byte) (Entry, error) {
	var v struct {
		ID        tiers.DocID     `json:"id"`
		Site      tiers.SiteID    `json:"site"`
		Fields    map[string]any  `json:"fields"`
		Conflicts []crdt.Conflict `json:"conflicts"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return Entry{}, fmt.Errorf("%w: entry: %w", ErrInvalid, err)
	}
	e := Entry{Code: v.ID.Name(), Site: v.Site, Fields: Fields{}, Conflicts: v.Conflicts}
	for k, x := range v.Fields {
		if s := scalar(x); s != "" {
			e.Fields[k] = s
		}
	}
	return e, nil
}

func scalar(x any) string {
	switch x := x.(type) {
	case string:
		return x
	case nil:
		return ""
	default:
		return fmt.Sprint(x)
	}
}

// FieldsOf reads an entry's values from its document: of a conflict, the winner.
func FieldsOf(d *crdt.Document) Fields {
	out := Fields{}
	for _, f := range d.Root.Fields {
		if s := scalar(f.Values[0].Node.Scalar); s != "" && f.Values[0].Node.Kind == crdt.NodeScalar {
			out[f.Key] = s
		}
	}
	return out
}

// Merge returns what an entry becomes by a row: before, with what the row gives,
// in canonical form. Before is nil for a new entry. It reports everything that is
// wrong with it, apart from references.
func (c *Catalog) Merge(before Fields, r Row) (Fields, []Problem) {
	out := Fields{}
	maps.Copy(out, before)
	var bad []Problem
	complain := func(field, value, want string) {
		bad = append(bad, Problem{Row: r.Row, Code: r.Fields["code"], Field: field, Value: value, Want: want})
	}
	for _, name := range slices.Sorted(maps.Keys(r.Fields)) {
		f, ok := c.Field(name)
		if !ok {
			complain(name, r.Fields[name], "one of the fields "+strings.Join(c.Columns(), ", "))
			continue
		}
		if v := r.Fields[name]; before != nil && v == before[name] {
			continue // also where it was written past the checks
		}
		v, want := f.canonical(r.Fields[name])
		if want != "" {
			complain(name, r.Fields[name], want)
			continue
		}
		if out[name] = v; v == "" {
			delete(out, name)
		}
	}
	for _, f := range c.Fields {
		if out[f.Name] == "" && before == nil && f.Default != "" {
			out[f.Name] = f.Default
		}
		if f.Required && tiers.Blank(out[f.Name]) && !slices.ContainsFunc(bad, func(p Problem) bool { return p.Field == f.Name }) {
			complain(f.Name, "", "a value")
		}
	}
	if err := tiers.NewDocID(c.Kind, out["code"]).Validate(); err != nil && out["code"] != "" {
		complain("code", out["code"], "letters, digits, '-', '_' or '.'")
	}
	if len(bad) == 0 && c.check != nil {
		if p := c.check(out); p != nil {
			complain(p.Field, p.Value, p.Want)
		}
	}
	return out, bad
}

// canonical returns the one form of a value, or what is wanted instead.
func (f Field) canonical(s string) (out, want string) {
	if f.Type != Nested { // CSV knows one kind of line end
		s = strings.TrimSpace(strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n"))
	}
	switch {
	case len(s) > int(f.bytesMax()):
		return "", fmt.Sprintf("at most %d bytes, not %d", f.bytesMax(), len(s))
	case !utf8.ValidString(s) || strings.ContainsAny(s, "\x00\x1f"):
		return "", "UTF-8 without control characters"
	case s == "":
		return "", ""
	}
	switch f.Type {
	case Int:
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || float64(n) < f.Min || float64(n) > f.Max {
			return "", fmt.Sprintf("a whole number from %.0f to %.0f", f.Min, f.Max)
		}
		return strconv.FormatInt(n, 10), ""
	case Number:
		n, err := strconv.ParseFloat(s, 64)
		if err != nil || !(n >= f.Min && n <= f.Max) || math.IsInf(n, 0) {
			return "", fmt.Sprintf("a number from %g to %g", f.Min, f.Max)
		}
		out = strconv.FormatFloat(n+0, 'f', -1, 64) // of -0 that is 0
		if len(out) > 32 {
			out = strconv.FormatFloat(n, 'g', -1, 64)
		}
		return out, ""
	case Enum:
		if !slices.Contains(f.Values, s) {
			return "", "one of " + strings.Join(f.Values, ", ")
		}
	case Bool:
		if s != "true" && s != "false" {
			return "", "true, false or nothing"
		}
		return strings.TrimPrefix(s, "false"), ""
	case List:
		return f.words(s)
	case Nested:
		return nested(s)
	case Semver:
		if !validVersion(s) {
			return "", "a version such as 1.4.0 or 2.0.0-rc.1"
		}
	case Text:
	}
	return s, ""
}

func (f Field) bytesMax() int64 {
	if f.Type == Int || f.Type == Number {
		return 64
	}
	return int64(f.Max)
}

func (f Field) words(s string) (out, want string) {
	words := strings.Fields(s)
	for _, w := range words {
		if len(f.Values) > 0 && !slices.Contains(f.Values, w) {
			return "", "words of " + strings.Join(f.Values, ", ")
		}
	}
	return strings.Join(words, " "), ""
}

func nested(s string) (out, want string) {
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(s)); err != nil || b.Len() == 0 || b.Bytes()[0] != '[' && b.Bytes()[0] != '{' {
		return "", "a JSON array or object"
	}
	return b.String(), ""
}

// Ops returns the operations that make an entry what it is to be, in field order;
// none when it is that already.
func Ops(before, after Fields) (out []crdt.Op) {
	names := map[string]bool{}
	for _, m := range []Fields{before, after} {
		for k := range m {
			names[k] = true
		}
	}
	for _, k := range slices.Sorted(maps.Keys(names)) {
		if before[k] != after[k] {
			out = append(out, crdt.Op{Kind: crdt.OpPut, Key: k, Value: after[k]})
		}
	}
	return out
}

// Equal reports whether two entries have the same values.
func (f Fields) Equal(o Fields) bool { return len(Ops(f, o)) == 0 }

// Sum is a hash of an entry's values.
func (f Fields) Sum() crdt.Hash {
	h := sha256.New()
	var b []byte
	for _, k := range slices.Sorted(maps.Keys(f)) {
		if f[k] == "" {
			continue
		}
		for _, s := range []string{k, f[k]} {
			b = append(binary.AppendUvarint(b[:0], uint64(len(s))), s...)
			_, _ = h.Write(b) // a hash takes everything
		}
	}
	return crdt.Hash(h.Sum(nil))
}

// Sum is a hash of all entries of a catalog at a site: of their codes and sums, in
// the order of the codes.
func Sum(entries map[string]crdt.Hash) crdt.Hash {
	h := sha256.New()
	for _, code := range slices.Sorted(maps.Keys(entries)) {
		s := entries[code]
		_, _ = h.Write(append(append(binary.AppendUvarint(nil, uint64(len(code))), code...), s[:]...))
	}
	return crdt.Hash(h.Sum(nil))
}

// References lists what an entry refers to: for each field with [Field.Ref] the
// codes that it names.
func (c *Catalog) References(f Fields) (out []Reference) {
	for _, field := range c.Fields {
		if v := f[field.Name]; field.Ref != "" && v != "" {
			out = append(out, Reference{Field: field.Name, Catalog: field.Ref, Code: v})
		}
	}
	return out
}

// Reference is a field that names an entry of a catalog; of an organ also by its
// name.
type Reference struct{ Field, Catalog, Code string }

// checkPoint refuses half a point.
func checkPoint(f Fields) *Problem {
	if (f["lat"] == "") == (f["lon"] == "") {
		return nil
	}
	return &Problem{Field: "lat", Value: f["lat"], Want: "lat and lon both, or neither"}
}
