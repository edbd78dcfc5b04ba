package tiers

import (
	"fmt"
	"strings"
	"unicode"
)

// SiteID is the opaque, stable code of a site: its administrative division
// code (500000, 500101, 500101001). Parentage is data in the [Topology], never
// a prefix of the code, because townships change districts.
type SiteID string

// siteIDBytesMax bounds a SiteID so that keys and frames have known sizes.
const siteIDBytesMax = 32

// Validate reports whether the identifier is 1 to 32 letters, digits or '-'.
// The error wraps [ErrInvalidID].
func (s SiteID) Validate() error {
	if len(s) == 0 || len(s) > siteIDBytesMax || !only(string(s), "-") {
		return fmt.Errorf("%w: site %q: want 1 to %d letters, digits or '-'", ErrInvalidID, string(s), siteIDBytesMax)
	}
	return nil
}

// DocID names a document inside its stream: a kind, a colon and a name, as in
// "event:01932f1c-…" or "track:flood-control". The kind selects the fold that
// turns the document into a view.
type DocID string

// docIDBytesMax bounds a DocID.
const docIDBytesMax = 96

// NewDocID joins a kind and a name. The result is not validated.
func NewDocID(kind, name string) DocID { return DocID(kind + ":" + name) }

// Kind returns what stands before the colon, or "" when there is none.
func (d DocID) Kind() string {
	kind, _, found := strings.Cut(string(d), ":")
	if !found {
		return ""
	}
	return kind
}

// Name returns what stands after the colon.
func (d DocID) Name() string {
	_, name, _ := strings.Cut(string(d), ":")
	return name
}

// FullName names a document in the whole federation: its stream and its name there,
// as in "500101001/urgent/event:01932f1c-…". It is what a [DocID] becomes in text
// where the name alone would mean several documents; it is no valid DocID.
func FullName(stream StreamID, doc DocID) DocID { return DocID(stream.String() + "/" + string(doc)) }

// Split takes a full name apart; full is false, and the stream empty, for a name
// without a stream. The document is not validated. The error wraps [ErrInvalidID].
func (d DocID) Split() (stream StreamID, doc DocID, full bool, err error) {
	i := strings.LastIndexByte(string(d), '/')
	if i < 0 {
		return StreamID{}, d, false, nil
	}
	if stream, err = ParseStream(string(d[:i])); err != nil {
		return StreamID{}, "", true, fmt.Errorf("%w: in %.128q: want site/class/kind:name, or kind:name", err, string(d))
	}
	return stream, d[i+1:], true, nil
}

// OfKind reads a name as people write it: with or without its kind, and its stream.
func OfKind(kind, text string) DocID {
	if text == "" || DocID(text).Local().Kind() != "" {
		return DocID(text)
	}
	i := strings.LastIndexByte(text, '/') + 1
	return DocID(text[:i]) + NewDocID(kind, text[i:])
}

// Local returns the name without its stream.
func (d DocID) Local() DocID { return d[strings.LastIndexByte(string(d), '/')+1:] }

// Validate reports whether the identifier is kind:name with a kind of lower
// case letters and a name of letters, digits, '-', '_' or '.', at most 96
// bytes in all. The error wraps [ErrInvalidID].
func (d DocID) Validate() error {
	kind, name, found := strings.Cut(string(d), ":")
	bad := !found || kind == "" || name == "" || len(d) > docIDBytesMax || !only(name, "-_.")
	for i := 0; !bad && i < len(kind); i++ {
		bad = kind[i] < 'a' || kind[i] > 'z'
	}
	if bad {
		return fmt.Errorf("%w: document %q: want kind:name of at most %d bytes", ErrInvalidID, string(d), docIDBytesMax)
	}
	return nil
}

// only reports whether s holds nothing but ASCII letters, digits and extra.
func only(s, extra string) bool {
	for i := range len(s) {
		c := s[i]
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
			continue
		}
		if strings.IndexByte(extra, c) < 0 {
			return false
		}
	}
	return true
}

// Blank reports whether a text shows nothing: it has only spaces and characters that
// cannot be seen.
func Blank(text string) bool {
	return strings.IndexFunc(text, func(r rune) bool {
		return !unicode.IsSpace(r) && !unicode.In(r, unicode.Cc, unicode.Cf, unicode.Mn, unicode.Zl, unicode.Zp)
	}) < 0
}
