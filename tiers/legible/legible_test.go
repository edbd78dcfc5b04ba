package legible_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/tiers/legible"
)

// TestTextEscapesWhatActsOrDeceives: what a terminal obeys, what reverses, hides or
// breaks a line is shown; what people write is left as it is.
func TestTextEscapesWhatActsOrDeceives(t *testing.T) {
	for _, row := range []struct{ name, in, want string }{
		{"plain", "供水井盖异常 (manhole) – “2 m”", "供水井盖异常 (manhole) – “2 m”"},
		{"clear the screen", "x\x1b[2J\x1b[1;1Hall clear\a", `x\x1b[2J\x1b[1;1Hall clear\x07`},
		{"C1 introducer", "a\u009b2Jb", `a\u009b2Jb`},
		{"delete", "a\x7fb", `a\u007fb`},
		{"a line of its own", "row1\nevent:fake\r\n\tx", `row1\nevent:fake\r\n\tx`},
		{"line separators", "a\u2028b\u2029c\u0085d", `a\u2028b\u2029c\u0085d`},
		{"override", "a\u202eb\u2066c\u061cd", `a\u202eb\u2066c\u061cd`},
		{"zero width", "a\u200bb\ufeffc\u00add\u2060e", `a\u200bb\ufeffc\u00add\u2060e`},
		{"tags", "a\U000e0041b", `a\udb40\udc41b`},
		{"fillers", "a\u3164b\u115fc\u034fd", `a\u3164b\u115fc\u034fd`},
		{"no UTF-8", "a\x9b\xffb", `a\x9b\xffb`},
		{"a family", "👨\u200d👩\u200d👧", "👨\u200d👩\u200d👧"},
		{"a heart on fire", "❤\ufe0f\u200d🔥", "❤\ufe0f\u200d🔥"},
		{"a joiner between letters", "a\u200db", `a\u200db`},
		{"a form of a character", "葛\U000e0100城", "葛\U000e0100城"},
		{"selectors that carry a message", "a\ufe0f\ufe01\ufe02", "a\ufe0f" + `\ufe01\ufe02`},
		{"accents", "e\u0301", "e\u0301"},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := legible.Text(row.in); got != row.want {
				t.Fatalf("Text(%q) = %q, want %q", row.in, got, row.want)
			}
		})
	}
}

// TestTextIsQuiet: whatever comes in, what goes out is one line of UTF-8 without a
// control or an override, and escaping again changes nothing.
func TestTextIsQuiet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })).Draw(t, "in")
		got := legible.Text(in)
		if !utf8.ValidString(got) {
			t.Fatalf("%q is no UTF-8", got)
		}
		for _, r := range got {
			if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) || r == '\u2028' {
				t.Fatalf("%q holds %U", got, r)
			}
		}
		if again := legible.Text(got); again != got {
			t.Fatalf("again: %q, was %q", again, got)
		}
	})
}

// TestWriterSeesWholeCharacters: how an output is cut into writes makes no difference.
func TestWriterSeesWholeCharacters(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOf(rapid.RuneFrom([]rune("a城👨\u200d\n\t\x1b\u202e\u009b\ufe0f"))).Draw(t, "text") + rapid.SampledFrom([]string{"", "\xe5", "\xf0\x9f"}).Draw(t, "tail")
		write := func(sizes func() int) string {
			var b bytes.Buffer
			w := legible.NewWriter(&b)
			for rest := text; rest != ""; {
				n := min(sizes(), len(rest))
				if k, err := w.Write([]byte(rest[:n])); err != nil || k != n {
					t.Fatalf("Write of %d bytes = %d, %v", n, k, err)
				}
				rest = rest[n:]
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			return b.String()
		}
		whole := write(func() int { return len(text) })
		parts := write(func() int { return rapid.IntRange(1, 3).Draw(t, "size") })
		if whole != parts {
			t.Fatalf("in parts %q, at once %q", parts, whole)
		}
		var lines []string
		for l := range strings.SplitSeq(text, "\n") {
			var cells []string
			for c := range strings.SplitSeq(l, "\t") {
				cells = append(cells, legible.Text(c))
			}
			lines = append(lines, strings.Join(cells, "\t"))
		}
		if want := strings.Join(lines, "\n"); whole != want {
			t.Fatalf("%q, want %q", whole, want)
		}
	})
}

// TestWriterLeavesJSONTheSame: JSON that goes through a Writer decodes to the same,
// and has nothing in it that acts on a terminal.
func TestWriterLeavesJSONTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := map[string]string{"title": rapid.OneOf(rapid.String(), rapid.StringOf(rapid.RuneFrom(nil, unicode.Cc, unicode.Cf, unicode.So))).Draw(t, "title")}
		var b bytes.Buffer
		w := legible.NewWriter(&b)
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if err := enc.Encode(in); err != nil {
			t.Fatal(err)
		}
		if i := strings.IndexFunc(b.String(), func(r rune) bool { return r != '\n' && unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) }); i >= 0 {
			t.Fatalf("%q acts at %d", b.String(), i)
		}
		var out map[string]string
		if err := json.Unmarshal(b.Bytes(), &out); err != nil || out["title"] != in["title"] {
			t.Fatalf("%q came back as %q, %v", in["title"], out["title"], err)
		}
	})
}

// TestLinesCannotBeginLikeTheProgram: a text of several lines is set in.
func TestLinesCannotBeginLikeTheProgram(t *testing.T) {
	if got, want := legible.Lines("a\r\nevent:fake\n\x1bb\n", "  "), "a\n  event:fake\n  \\x1bb"; got != want {
		t.Fatalf("%q, want %q", got, want)
	}
}
