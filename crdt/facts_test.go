package crdt_test

import (
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// factSource is a document whose facts stand in two concurrent lists, of entries by
// author and text; nil is no text.
func factSource(lists ...[]crdt.Written) *crdt.Source {
	var values []crdt.Written
	for _, items := range lists {
		values = append(values, crdt.Written{Node: crdt.Node{Kind: crdt.NodeList, Items: items}})
	}
	root := crdt.Node{Kind: crdt.NodeMap, Fields: []crdt.Field{{Key: "facts", Values: values}}}
	return &crdt.Source{
		Document: &crdt.Document{Root: root},
		Authors:  map[crdt.Actor]crdt.Author{{1}: {Site: "500101"}, {2}: {Site: "500102"}},
	}
}

// TestFacts: facts depend on the set of entries, each once for each author, however
// they are dealt out to lists and in whatever order they stand there.
func TestFacts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type entry struct {
			actor byte
			text  string
		}
		drawn := rapid.SliceOf(rapid.Custom(func(t *rapid.T) entry {
			return entry{rapid.ByteRange(0, 2).Draw(t, "actor"), rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "text")}
		})).Draw(t, "entries")
		var want []crdt.Fact // the naive way: in order, those that are there
		for _, text := range []string{"a", "b", "c"} {
			for actor, site := range []tiers.SiteID{"", "500101", "500102"} {
				if slices.Contains(drawn, entry{byte(actor), text}) {
					want = append(want, crdt.Fact{Text: text, Author: site})
				}
			}
		}
		var lists [2][]crdt.Written
		for _, e := range rapid.Permutation(drawn).Draw(t, "order") {
			i := rapid.IntRange(0, 1).Draw(t, "list")
			lists[i] = append(lists[i], crdt.Written{Actor: crdt.Actor{e.actor}, Node: crdt.Node{Kind: crdt.NodeScalar, Scalar: e.text}})
		}
		none := rapid.IntRange(0, 2).Draw(t, "no texts")
		for range none {
			lists[0] = append(lists[0], crdt.Written{Node: crdt.Node{Kind: crdt.NodeScalar, Scalar: int64(1)}})
		}
		got, malformed := factSource(lists[:]...).Facts("facts")
		if !reflect.DeepEqual(got, want) && len(got)+len(want) > 0 || malformed != none {
			t.Fatalf("%v, %d, want %v, %d", got, malformed, want, none)
		}
	})
}

// TestHead: the immutable part may be missing while records are held back, and never
// malformed.
func TestHead(t *testing.T) {
	for name, row := range map[string]struct {
		text    string
		pending int
		bad     bool
	}{
		"there": {`{"n":1}`, 0, false}, "missing": {"", 0, true}, "held back": {"", 1, false}, "malformed": {"{", 1, true},
	} {
		s := &crdt.Source{Pending: row.pending, Document: &crdt.Document{Root: crdt.Node{Kind: crdt.NodeMap}}}
		if row.text != "" {
			s.Document.Root.Fields = []crdt.Field{{Key: "head", Values: []crdt.Written{{Node: crdt.Node{Kind: crdt.NodeScalar, Scalar: row.text}}}}}
		}
		var into struct{ N int }
		if err := s.Head("head", &into); (err != nil) != row.bad || !row.bad && row.text != "" && into.N != 1 {
			t.Errorf("%s: %v, %+v", name, err, into)
		}
	}
}
