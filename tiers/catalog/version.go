package catalog

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// KindVersion is the document kind of versions and the name of their index; see
// [VersionPrefix].
const KindVersion = "catalogversion"

const keyVersion = "version"

// Version is one version of a catalog at the site that published it. It is written
// once, in the same commit as the entries that make it, and behind them: it covers
// everything that stands before it in its own chain, and of other chains of its
// stream what [Version.Others] names.
type Version struct {
	Catalog string `json:"catalog"`
	// Number counts from 1.
	Number uint64          `json:"number"`
	At     crdt.HybridTime `json:"at"`
	By     tiers.SiteID    `json:"by"`
	// Count is how many entries there are, retired ones too; Sum is [Sum] of them.
	Count int    `json:"count"`
	Sum   string `json:"sum"`
	// Changed is how many entries were added or changed by it.
	Changed int    `json:"changed"`
	Note    string `json:"note,omitempty"`
	// Others are how far the chains of other authors are covered, by author.
	Others map[string]uint64 `json:"others,omitempty"`
}

// VersionDoc is the identifier of a version's document.
func VersionDoc(catalog string, number uint64) tiers.DocID {
	return tiers.NewDocID(KindVersion, catalog+"."+strconv.FormatUint(number, 10))
}

// VersionPrefix is what the index values of a catalog's versions at a site begin
// with; they ascend with the numbers.
func VersionPrefix(site tiers.SiteID, catalog string) string {
	return string(site) + "/" + catalog + "/"
}

// VersionOps returns the operations that write a version. The error wraps
// [ErrInvalid].
func VersionOps(v Version) ([]crdt.Op, error) {
	if _, ok := Find(v.Catalog); !ok || v.Number == 0 {
		return nil, fmt.Errorf("%w: version %d of catalog %.64q: want a number from 1 and one of %v", ErrInvalid, v.Number, v.Catalog, Names())
	}
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return []crdt.Op{{Kind: crdt.OpPut, Key: keyVersion, Value: string(b)}}, nil
}

// VersionView is what people see of a version.
type VersionView struct {
	ID     tiers.DocID  `json:"id"`
	Stream string       `json:"stream"`
	Site   tiers.SiteID `json:"site"`
	Version
	// Again are versions of the same number that the site wrote in another
	// incarnation: an old copy of it went on from the same version.
	Again   []Version `json:"again,omitempty"`
	Pending int       `json:"pending,omitempty"`
	Refused int       `json:"refused,omitempty"`
}

// FoldVersion derives a version's view. Only the stream's own site makes versions
// of its catalogs; of two with one number the earlier holds.
func FoldVersion(s *crdt.Source) (crdt.View, error) {
	v := VersionView{ID: s.Doc, Stream: s.Stream.String(), Site: s.Stream.Site, Pending: s.Pending, Refused: s.Refused}
	var all []Version
	for _, w := range s.Document.Root.Field(keyVersion) {
		var x Version
		b, _ := w.Node.Scalar.(string)
		if json.Unmarshal([]byte(b), &x) == nil && s.Authors[w.Actor].Site == s.Stream.Site && VersionDoc(x.Catalog, x.Number) == s.Doc {
			all = append(all, x)
		}
	}
	slices.SortFunc(all, func(a, b Version) int {
		return cmp.Or(cmp.Compare(a.At, b.At), cmp.Compare(a.Sum, b.Sum), cmp.Compare(a.Changed, b.Changed), cmp.Compare(a.Note, b.Note))
	})
	if len(all) == 0 {
		if s.Pending > 0 {
			return made(s, v)
		}
		return crdt.View{}, fmt.Errorf("%w: %s of %s is no version that the site made", ErrInvalid, s.Doc, s.Stream)
	}
	v.Version, v.Again = all[0], all[1:]
	return made(s, v, crdt.IndexEntry{
		Name: KindVersion, Value: VersionPrefix(v.Site, v.Catalog) + fmt.Sprintf("%012d", v.Number),
	})
}

func made(s *crdt.Source, v any, index ...crdt.IndexEntry) (crdt.View, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return crdt.View{}, fmt.Errorf("%w: view of %s: %w", ErrInvalid, s.Doc, err)
	}
	return crdt.View{JSON: b, Index: index}, nil
}

// Used names the version of a catalog that a record used: SITE/NUMBER, with a "+"
// behind it when the entry was changed since that version and no later one had
// come. It is empty for none.
type Used string

// NewUsed names a version.
func NewUsed(site tiers.SiteID, number uint64, after bool) Used {
	s := string(site) + "/" + strconv.FormatUint(number, 10)
	if after {
		s += "+"
	}
	return Used(s)
}

// Place is where a change of a document stands in the chains of its stream.
type Place struct {
	Author crdt.Author
	Seq    uint64
	Hash   crdt.Hash
	Deps   []crdt.Hash
}

// Cover is what a version covers of its stream.
type Cover struct {
	// Author wrote the version as record Seq of its chain.
	Author crdt.Author
	Seq    uint64
	Others map[string]uint64
}

// Has reports whether a record is covered.
func (c Cover) Has(a crdt.Author, seq uint64) bool {
	if a == c.Author {
		return seq <= c.Seq
	}
	return seq <= c.Others[a.String()]
}

// Select says which changes of a document belong to a version: those that it
// covers, and what those were built on. Changes follow what they depend on.
func (c Cover) Select(changes []Place) []bool {
	in, needed := make([]bool, len(changes)), map[crdt.Hash]bool{}
	for i := len(changes) - 1; i >= 0; i-- {
		p := changes[i]
		if in[i] = needed[p.Hash] || c.Has(p.Author, p.Seq); !in[i] {
			continue
		}
		for _, d := range p.Deps {
			needed[d] = true
		}
	}
	return in
}

// Change is what one entry differs in between two versions.
type Change struct {
	Code string `json:"code"`
	// What is added, changed, retired or revived.
	What   string           `json:"what"`
	Fields map[string]Delta `json:"fields"`
}

// Delta is a field's value before and after.
type Delta struct {
	From string `json:"from,omitempty"`
	To   string `json:"to,omitempty"`
}

// Compare says what an entry differs in; ok is false when in nothing. Before is nil
// for one that was not there.
func Compare(code string, before, after Fields) (c Change, ok bool) {
	c = Change{Code: code, What: "changed", Fields: map[string]Delta{}}
	for _, op := range Ops(before, after) {
		c.Fields[op.Key] = Delta{before[op.Key], after[op.Key]}
	}
	_, turned := c.Fields[Retired]
	switch {
	case before == nil:
		c.What = "added"
	case after == nil:
		c.What = "gone"
	case turned && after[Retired] == "":
		c.What = "revived"
	case turned:
		c.What = "retired"
	}
	return c, len(c.Fields) > 0
}

// ParseUsed reads what [NewUsed] wrote. The error wraps [ErrInvalid].
func ParseUsed(u Used) (site tiers.SiteID, number uint64, after bool, err error) {
	s, n, ok := strings.Cut(string(u), "/")
	n, after = strings.CutSuffix(n, "+")
	number, bad := strconv.ParseUint(n, 10, 64)
	if !ok || bad != nil || tiers.SiteID(s).Validate() != nil {
		return "", 0, false, fmt.Errorf("%w: version %.64q: want SITE/NUMBER", ErrInvalid, string(u))
	}
	return tiers.SiteID(s), number, after, nil
}
