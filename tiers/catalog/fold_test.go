package catalog_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/catalog"
)

// written is a value under a key of a document, or an item of its list of steps.
type written struct {
	author tiers.SiteID
	key    string // "" for a step
	text   string
}

// source is a document that was written so, as the engine would read it.
func source(site tiers.SiteID, class tiers.Class, doc tiers.DocID, ws []written) *crdt.Source {
	s := &crdt.Source{
		Stream: tiers.StreamID{Site: site, Class: class}, Doc: doc, Document: &crdt.Document{}, Authors: map[crdt.Actor]crdt.Author{},
	}
	var items []crdt.Written
	fields := map[string][]crdt.Written{}
	var keys []string
	for i, w := range ws {
		author := crdt.Author{Site: w.author, Incarnation: 1}
		actor := crdt.NewActor(author, [8]byte{})
		s.Authors[actor] = author
		x := crdt.Written{Node: crdt.Node{Kind: crdt.NodeScalar, Scalar: w.text}, Actor: actor, Counter: uint64(i)}
		if w.key == "" {
			items = append(items, x)
			continue
		}
		if fields[w.key] == nil {
			keys = append(keys, w.key)
		}
		fields[w.key] = append(fields[w.key], x)
	}
	for _, k := range keys {
		s.Document.Root.Fields = append(s.Document.Root.Fields, crdt.Field{Key: k, Values: fields[k]})
	}
	s.Document.Root.Fields = append(s.Document.Root.Fields, crdt.Field{Key: "steps", Values: []crdt.Written{{Node: crdt.Node{Kind: crdt.NodeList, Items: items}}}})
	return s
}

func marshal(t interface{ Fatal(...any) }, v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// drawSteps draws steps of every kind by every site, also such as the writer may
// not make, and something that is none.
func drawSteps(t *rapid.T, kinds []string, sites []tiers.SiteID) (ws []written, steps []catalog.Step) {
	for i := range rapid.IntRange(0, 8).Draw(t, "steps") {
		x := catalog.Step{
			At: crdt.HybridTime(i + 1), By: rapid.SampledFrom(sites).Draw(t, "by"),
			Kind: rapid.SampledFrom(kinds).Draw(t, "kind"), UntilMS: rapid.Int64Range(0, 9).Draw(t, "until"),
		}
		author := x.By
		if rapid.IntRange(0, 4).Draw(t, "lies") == 0 {
			author = rapid.SampledFrom(sites).Draw(t, "author")
		}
		ws = append(ws, written{author, "", marshal(t, x)})
		if author == x.By {
			steps = append(steps, x)
		}
	}
	return append(ws, written{sites[0], "", "no step"}), steps
}

// TestGrantFold: any order and any number of copies of the same steps give the same
// view, byte for byte, with the state that playing them one after the other gives;
// only the owner grants, refuses and revokes, only the grantee withdraws.
func TestGrantFold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ws, steps := drawSteps(t, append(catalog.GrantSteps(), "dance"), []tiers.SiteID{"owner", "user", "city"})
		head := written{"user", "head", `{"resource":"r","owner":"owner","grantee":"user","purpose":"p","at":1}`}
		fold := func(ws []written) (v catalog.GrantView, text string) {
			made, err := catalog.FoldGrant(source("user", tiers.ClassCatalog, "usagegrant:1", append([]written{head}, ws...)))
			if err == nil {
				err = json.Unmarshal(made.JSON, &v)
			}
			if err != nil {
				t.Fatal(err)
			}
			return v, string(made.JSON)
		}
		v, text := fold(ws)
		if _, other := fold(rapid.Permutation(append(slices.Clone(ws), ws...)).Draw(t, "shuffled")); other != text {
			t.Fatalf("%s\nor %s", text, other)
		}
		allowed := map[string]string{ // who, what, from where
			"owner grant requested": "granted", "owner grant granted": "granted", "owner refuse requested": "refused",
			"owner revoke granted": "revoked", "user withdraw requested": "withdrawn", "user withdraw granted": "withdrawn",
		}
		state, end := "requested", int64(0)
		for _, x := range steps {
			if to := allowed[fmt.Sprintf("%s %s %s", x.By, x.Kind, state)]; to != "" {
				if state = to; x.Kind == catalog.StepGrant {
					end = x.UntilMS
				}
			}
		}
		if v.State != state || state == "granted" && v.EndMS != end {
			t.Fatalf("%s until %d, want %s until %d: %s", v.State, v.EndMS, state, end, text)
		}
		if now := v.StateAt(5); (now == catalog.GrantExpired) != (state == "granted" && end != 0 && end <= 5) {
			t.Fatalf("%s of %s at 5", now, text)
		}
	})
}

// TestReplicationFold: the same for replications: the target decides, once.
func TestReplicationFold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ws, steps := drawSteps(t, []string{catalog.ReplicationInstalled, catalog.ReplicationRefused, "dance"}, []tiers.SiteID{"target", "city"})
		head := written{"city", "head", `{"code":"a_1.0.0","to":"target","by":"city","at":1,"fields":{}}`}
		fold := func(ws []written) (crdt.View, catalog.ReplicationView) {
			made, err := catalog.FoldReplication(source("target", tiers.ClassCommand, "replication:1", append([]written{head}, ws...)))
			var v catalog.ReplicationView
			if err == nil {
				err = json.Unmarshal(made.JSON, &v)
			}
			if err != nil {
				t.Fatal(err)
			}
			return made, v
		}
		made, v := fold(ws)
		if other, _ := fold(rapid.Permutation(append(slices.Clone(ws), ws...)).Draw(t, "shuffled")); string(other.JSON) != string(made.JSON) {
			t.Fatalf("%s\nor %s", made.JSON, other.JSON)
		}
		want := catalog.ReplicationOrdered
		for _, x := range steps {
			if want == catalog.ReplicationOrdered && x.By == "target" && x.Kind != "dance" {
				want = x.Kind
			}
		}
		pending := slices.ContainsFunc(made.Index, func(e crdt.IndexEntry) bool {
			return e == crdt.IndexEntry{Name: catalog.IndexReplicationPending, Value: "target/1"}
		})
		if v.State != want || pending != (want == catalog.ReplicationOrdered) {
			t.Fatalf("%s, listed %v, want %s: %s", v.State, pending, want, made.JSON)
		}
	})
}

// TestVersionFold: of several versions with one number the earlier that the site
// itself made holds, in whatever order they are found, and the others are shown.
func TestVersionFold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var ws []written
		var want []catalog.Version
		for range rapid.IntRange(0, 4).Draw(t, "versions") {
			v := catalog.Version{Catalog: "types", Number: rapid.Uint64Range(3, 4).Draw(t, "number"), At: crdt.HybridTime(rapid.IntRange(1, 3).Draw(t, "at")), Sum: rapid.StringN(1, 1, 1).Draw(t, "sum")}
			author := rapid.SampledFrom([]tiers.SiteID{"site", "city"}).Draw(t, "author")
			ws = append(ws, written{author, "version", marshal(t, v)})
			if author == "site" && v.Number == 3 {
				want = append(want, v)
			}
		}
		fold := func(ws []written) (string, error) {
			made, err := catalog.FoldVersion(source("site", tiers.ClassCatalog, "catalogversion:types.3", ws))
			return string(made.JSON), err
		}
		text, err := fold(ws)
		if len(want) == 0 {
			if !errors.Is(err, catalog.ErrInvalid) {
				t.Fatalf("%s, %v", text, err)
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if other, _ := fold(rapid.Permutation(ws).Draw(t, "shuffled")); other != text {
			t.Fatalf("%s\nor %s", text, other)
		}
		var v catalog.VersionView
		if err := json.Unmarshal([]byte(text), &v); err != nil || len(v.Again) != len(want)-1 {
			t.Fatalf("%s, %v", text, err)
		}
		if slices.ContainsFunc(want, func(x catalog.Version) bool { return x.At < v.At }) {
			t.Fatalf("%s is not the earliest of %v", text, want)
		}
	})
}

// TestSelect: what a version holds of a document is what it covers and what that was
// built on, and nothing else; a later version holds it, too.
func TestSelect(t *testing.T) {
	a, b := crdt.Author{Site: "site", Incarnation: 1}, crdt.Author{Site: "city", Incarnation: 2}
	rapid.Check(t, func(t *rapid.T) {
		var changes []catalog.Place
		next := map[crdt.Author]uint64{}
		for i := range rapid.IntRange(0, 12).Draw(t, "changes") {
			p := catalog.Place{Author: rapid.SampledFrom([]crdt.Author{a, b}).Draw(t, "author"), Hash: crdt.Hash{byte(i + 1)}}
			next[p.Author] += rapid.Uint64Range(1, 3).Draw(t, "step")
			p.Seq = next[p.Author]
			for j := range i {
				if rapid.Bool().Draw(t, "dep") {
					p.Deps = append(p.Deps, changes[j].Hash)
				}
			}
			changes = append(changes, p)
		}
		cover := catalog.Cover{Author: a, Seq: rapid.Uint64Range(0, 20).Draw(t, "own"), Others: map[string]uint64{b.String(): rapid.Uint64Range(0, 20).Draw(t, "other")}}
		got := cover.Select(changes)
		// The naive way: begin with what is covered, and add what it needs until
		// nothing is added.
		in := map[crdt.Hash]bool{}
		for _, p := range changes {
			if p.Author == a && p.Seq <= cover.Seq || p.Author == b && p.Seq <= cover.Others[b.String()] {
				in[p.Hash] = true
			}
		}
		for grew := true; grew; {
			grew = false
			for _, p := range changes {
				for _, d := range p.Deps {
					if in[p.Hash] && !in[d] {
						in[d], grew = true, true
					}
				}
			}
		}
		later := cover
		later.Seq += rapid.Uint64Range(0, 5).Draw(t, "later")
		for i, more := range later.Select(changes) {
			if got[i] != in[changes[i].Hash] || got[i] && !more {
				t.Fatalf("change %d: %v, want %v; later %v", i, got[i], in[changes[i].Hash], more)
			}
		}
	})
}

// TestInstallFold: only the site says what it runs; the later word holds, in
// whatever order they are found.
func TestInstallFold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ws := []written{{"site", "head", marshal(t, catalog.Install{App: "a", Version: "1.0.0", AtMS: 1})}}
		last := int64(1)
		for range rapid.IntRange(0, 4).Draw(t, "more") {
			author := rapid.SampledFrom([]tiers.SiteID{"site", "city"}).Draw(t, "author")
			at := rapid.Int64Range(1, 5).Draw(t, "at")
			if author == "site" {
				last = max(last, at)
			}
			ws = append(ws, written{author, "head", marshal(t, catalog.Install{App: "a", Version: rapid.SampledFrom([]string{"2.0.0", "3.0.0"}).Draw(t, "version"), AtMS: at})})
		}
		fold := func(ws []written) string {
			made, err := catalog.FoldInstall(source("site", tiers.ClassCatalog, "install:a", ws))
			if err != nil {
				t.Fatal(err)
			}
			return string(made.JSON)
		}
		text := fold(ws)
		if other := fold(rapid.Permutation(append(slices.Clone(ws), ws...)).Draw(t, "shuffled")); other != text {
			t.Fatalf("%s\nor %s", text, other)
		}
		if !strings.Contains(text, fmt.Sprintf(`"at_ms":%d`, last)) {
			t.Fatalf("%s, want the word at %d", text, last)
		}
	})
}

// TestFoldRefusals: what nobody may have written so is no document.
func TestFoldRefusals(t *testing.T) {
	grant := `{"resource":"r","owner":"owner","grantee":"user","purpose":"p"}`
	for name, fold := range map[string]func() (crdt.View, error){
		"grant in another's name": func() (crdt.View, error) {
			return catalog.FoldGrant(source("user", tiers.ClassCatalog, "usagegrant:1", []written{{"owner", "head", grant}}))
		},
		"grant without a head": func() (crdt.View, error) {
			return catalog.FoldGrant(source("user", tiers.ClassCatalog, "usagegrant:1", nil))
		},
		"head is no JSON": func() (crdt.View, error) {
			return catalog.FoldReplication(source("x", tiers.ClassCommand, "replication:1", []written{{"x", "head", "{"}}))
		},
		"replication for another site": func() (crdt.View, error) {
			return catalog.FoldReplication(source("x", tiers.ClassCommand, "replication:1", []written{{"city", "head", `{"to":"y","by":"city"}`}}))
		},
		"install by somebody else": func() (crdt.View, error) {
			return catalog.FoldInstall(source("x", tiers.ClassCatalog, "install:a", []written{{"city", "head", `{"app":"a"}`}}))
		},
	} {
		if v, err := fold(); !errors.Is(err, catalog.ErrInvalid) {
			t.Errorf("%s: %s, %v", name, v.JSON, err)
		}
	}
}
