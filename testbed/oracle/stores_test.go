package oracle_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/testbed/oracle"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
)

var errDisk = errors.New("disk")

// TestNothingLost plants lost records.
func TestNothingLost(t *testing.T) {
	f := newFederation(t)
	for _, name := range []string{"a", "b", "c"} {
		f.report(town, name, name)
	}
	holds(t, "at home before anything was sent", oracle.KeptAtHome(f.acked, f.all()))
	caught(t, "nothing was sent", 2*3, oracle.NothingLost(f.topology, f.acked, f.all()))
	f.converge()
	holds(t, "all was sent", oracle.NothingLost(f.topology, f.acked, f.all()))

	late := f.report(town, "late", "late")
	f.ship(town, north, late.Stream)
	caught(t, "the city lacks one", 1, oracle.NothingLost(f.topology, f.acked, f.all()))
	holds(t, "the city is not asked", oracle.NothingLost(f.topology, f.acked, f.all()[1:]))
	f.converge()

	// The record stands elsewhere, or another one stands in its place.
	moved := late
	moved.Seq++
	caught(t, "another place", 3, oracle.NothingLost(f.topology, []oracle.Acked{moved}, f.all()))
	swapped := with(f.all(), town, func(s *oracle.Site) {
		st := s.Store
		s.Store = lying{Store: st, run: func(c crdt.ChainID, first, last uint64, bytesMax int) (store.Run, error) {
			run, err := st.ReadRun(c, first, last, bytesMax)
			run.Records[1] = run.Records[0]
			return run, err
		}}
	})
	caught(t, "a record is another one at home", 1, oracle.KeptAtHome(f.acked, swapped))
	caught(t, "a record is another one", 1, oracle.NothingLost(f.topology, f.acked, swapped))
	broken := with(f.all(), city, func(s *oracle.Site) {
		s.Store = lying{Store: s.Store, run: func(crdt.ChainID, uint64, uint64, int) (store.Run, error) { return store.Run{}, errDisk }}
	})
	caught(t, "it cannot be read", 1, oracle.NothingLost(f.topology, f.acked, broken))
}

// TestWrittenAgain: what a site writes once more in a new incarnation counts, and
// what it then does not write again is lost.
func TestWrittenAgain(t *testing.T) {
	f := newFederation(t)
	kept, lost := f.report(town, "kept", "x"), f.report(town, "lost", "x")
	again := newFederation(t) // its site begins anew
	ops := []crdt.Op{{Kind: crdt.OpPut, Key: "k", Value: "v"}}
	again.write(self(town), kept.Stream, "event:before", ops...)
	again.write(crdt.Author{Site: town, Incarnation: 2}, kept.Stream, "event:after", ops...)
	again.write(crdt.Author{Site: town, Incarnation: 2}, kept.Stream, kept.Doc, ops...)
	again.converge()
	holds(t, "written again", oracle.NothingLost(f.topology, []oracle.Acked{kept}, again.all()))
	caught(t, "not written again", 3, oracle.NothingLost(f.topology, []oracle.Acked{lost}, again.all()))
	twice := kept // of two changes of the document, one was written again
	twice.Seq = 7
	caught(t, "one of two written again", 6, oracle.NothingLost(f.topology, []oracle.Acked{kept, twice}, again.all()))

	unchanged := oracle.Acked{Site: town, Stream: kept.Stream, Doc: kept.Doc}
	holds(t, "a write that changed nothing", oracle.NothingLost(f.topology, []oracle.Acked{unchanged}, f.all()[2:3]))
	unchanged.Doc = "event:never"
	caught(t, "of a document that is not there", 1, oracle.NothingLost(f.topology, []oracle.Acked{unchanged}, f.all()[2:3]))
}

// TestSameViews plants a view that differs in one byte.
func TestSameViews(t *testing.T) {
	f := newFederation(t)
	a := f.report(town, "a", "burst pipe")
	track := in(north, tiers.ClassCatalog)
	f.write(self(north), track, "track:flood", crdt.Op{Kind: crdt.OpPut, Key: "target", Value: "5"})
	f.converge()
	// Both sides of a cut edit the track.
	f.write(self(north), track, "track:flood", crdt.Op{Kind: crdt.OpPut, Key: "target", Value: "6"})
	f.write(self(city), track, "track:flood", crdt.Op{Kind: crdt.OpPut, Key: "target", Value: "7"})
	holds(t, "while links are cut", oracle.SameViews(f.topology, f.all(), false))
	caught(t, "they have not converged", 1, oracle.SameViews(f.topology, f.all(), true))
	f.converge()
	holds(t, "converged", oracle.SameViews(f.topology, f.all(), true))

	altered := with(f.all(), north, func(s *oracle.Site) {
		view := s.View
		s.View = func(k store.DocKey) (crdt.View, error) {
			v, err := view(k)
			if k.Doc == a.Doc {
				v.JSON = bytes.Replace(v.JSON, []byte("burst"), []byte("Burst"), 1)
			}
			return v, err
		}
	})
	caught(t, "one byte", 1, oracle.SameViews(f.topology, altered, false))
	unlisted := with(f.all(), town, func(s *oracle.Site) {
		view := s.View
		s.View = func(k store.DocKey) (crdt.View, error) {
			v, err := view(k)
			if k.Doc == a.Doc {
				v.Index = v.Index[1:]
			}
			return v, err
		}
	})
	caught(t, "an index entry", 1, oracle.SameViews(f.topology, unlisted, false))
	blind := with(f.all(), town, func(s *oracle.Site) {
		s.View = func(store.DocKey) (crdt.View, error) { return crdt.View{}, errDisk }
	})
	caught(t, "it cannot be read", 1, oracle.SameViews(f.topology, blind, false))

	f.report(town, "b", "unsent")
	holds(t, "one is not sent yet", oracle.SameViews(f.topology, f.all(), false))
	caught(t, "one is missing", 1, oracle.SameViews(f.topology, f.all(), true))
}

// TestStoredViewAltered plants a view in a store itself, as damage would.
func TestStoredViewAltered(t *testing.T) {
	f := newFederation(t)
	a := f.report(town, "a", "burst pipe")
	f.converge()
	k := store.DocKey{Stream: a.Stream, Doc: a.Doc}
	h, err := f.sites[north].Changes(k)
	if err != nil {
		t.Fatal(err)
	}
	v, err := f.sites[north].view.View(k)
	if err != nil {
		t.Fatal(err)
	}
	v.JSON = bytes.Replace(v.JSON, []byte("burst"), []byte("burnt"), 1)
	if err := f.sites[north].PutViews(store.Made{Key: k, View: v, Version: h.Version, Database: h.Database}); err != nil {
		t.Fatal(err)
	}
	caught(t, "a stored view", 1, oracle.SameViews(f.topology, f.all(), true))
}

// TestDigests plants digests that say too much and too little.
func TestDigests(t *testing.T) {
	f := newFederation(t)
	a := f.report(town, "a", "x")
	f.converge()
	f.report(town, "b", "x")
	f.ship(town, north, a.Stream)
	holds(t, "the city lags behind", oracle.Digests(f.topology, f.all()))
	caught(t, "and is not equal", 1, oracle.Converged(f.topology, f.all()))

	lagging := f.sites[city].Vector(a.Stream)
	forged := with(f.all(), north, func(s *oracle.Site) {
		st := s.Store
		s.Store = lying{Store: st, vector: func(s tiers.StreamID) crdt.Vector {
			v := st.Vector(s)
			if s == a.Stream { // the head of one record with the count of the other
				v[self(town)] = crdt.Head{Seq: 2, Hash: lagging[self(town)].Hash}
			}
			return v
		}}
	})
	caught(t, "equal records, another digest", 1, oracle.Digests(f.topology, forged))
	caught(t, "that is not equal either", 2, oracle.Converged(f.topology, forged))

	f.converge()
	holds(t, "converged", oracle.Digests(f.topology, f.all()))
	holds(t, "converged", oracle.Converged(f.topology, f.all()))
	rotten := with(f.all(), city, func(s *oracle.Site) {
		st := s.Store
		s.Store = lying{Store: st, run: func(c crdt.ChainID, first, last uint64, bytesMax int) (store.Run, error) {
			run, err := st.ReadRun(c, first, last, bytesMax)
			run.Records[0][len(run.Records[0])-1] ^= 1
			return run, err
		}}
	})
	caught(t, "an equal digest, other records than two others", 2, oracle.Digests(f.topology, rotten))
	short := with(f.all(), city, func(s *oracle.Site) {
		st := s.Store
		s.Store = lying{Store: st, run: func(c crdt.ChainID, first, last uint64, bytesMax int) (store.Run, error) {
			return st.ReadRun(c, first, 1, bytesMax)
		}}
	})
	caught(t, "a record is gone", 1, oracle.Digests(f.topology, short))
}

// TestAudience plants a stream outside its audience, and an author who may not write.
func TestAudience(t *testing.T) {
	f := newFederation(t)
	a := f.report(town, "a", "x")
	f.converge()
	holds(t, "as it should be", oracle.Audience(f.topology, f.all()))
	f.ship(town, other, a.Stream)
	caught(t, "a neighbour holds it", 1, oracle.Audience(f.topology, f.all()))

	g := newFederation(t)
	g.write(self(south), in(town, tiers.ClassRoutine), "event:a", crdt.Op{Kind: crdt.OpPut, Key: "k", Value: "v"})
	g.ship(south, city, in(town, tiers.ClassRoutine))
	caught(t, "another district wrote, and holds it", 3, oracle.Audience(g.topology, g.all()))
}

// TestFormerParents: a move takes nothing away that was held lawfully before.
func TestFormerParents(t *testing.T) {
	f := newFederation(t)
	f.report(town, "a", "x")
	f.write(self(north), in(north, tiers.ClassCatalog), "track:flood", crdt.Op{Kind: crdt.OpPut, Key: "target", Value: "5"})
	f.converge()
	doc := f.topology.Doc()
	next := tiers.TopologyDoc{Federation: doc.Federation, Version: 2, Sites: append([]tiers.Site(nil), doc.Sites...)}
	for i := range next.Sites {
		if next.Sites[i].ID == town {
			next.Sites[i].Parent = south
		}
	}
	moved, err := f.topology.Succeed(next)
	if err != nil {
		t.Fatal(err)
	}
	holds(t, "the former parent keeps the reports, the township its catalog", oracle.Audience(moved, f.all()))
	f.ship(town, other, in(town, tiers.ClassRoutine))
	caught(t, "a neighbour holds it", 1, oracle.Audience(moved, f.all()))
}

// TestRetired: a retired site keeps what it held, and no more.
func TestRetired(t *testing.T) {
	f := newFederation(t)
	f.report(town, "a", "x")
	f.report(south, "b", "x")
	f.converge()
	doc := f.topology.Doc()
	next := tiers.TopologyDoc{Federation: doc.Federation, Version: 2, Sites: slices.DeleteFunc(slices.Clone(doc.Sites), func(s tiers.Site) bool { return s.ID == south })}
	without, err := f.topology.Succeed(next)
	if err != nil {
		t.Fatal(err)
	}
	holds(t, "its own reports", oracle.Audience(without, f.all()))
	f.ship(town, south, in(town, tiers.ClassRoutine))
	caught(t, "another district's", 1, oracle.Audience(without, f.all()))
}

// TestClaims plants a resource that is given twice in one epoch, and one that its
// home has forgotten about.
func TestClaims(t *testing.T) {
	f := newFederation(t)
	var granted []oracle.Granted
	grant := func(holder string, force bool) {
		f.tx(town, func(tx *store.Tx) error {
			c, err := tx.Grant("engine-7", holder, force)
			granted = append(granted, oracle.Granted{Site: town, Resource: "engine-7", Holder: holder, Epoch: c.Epoch})
			return err
		})
	}
	grant("task:a", false)
	before := slices.Clone(granted)
	grant("task:a", false) // again
	grant("task:b", true)
	holds(t, "taken by force", oracle.Claims(granted, f.all()))
	f.tx(town, func(tx *store.Tx) error {
		_, err := tx.Release("engine-7", granted[2].Epoch)
		return err
	})
	holds(t, "released", oracle.Claims(granted, f.all()))

	twice := append(slices.Clone(granted), oracle.Granted{Site: town, Resource: "engine-7", Holder: "task:c", Epoch: granted[0].Epoch})
	caught(t, "twice in an epoch", 1, oracle.Claims(twice, f.all()))
	elsewhere := append(slices.Clone(granted), oracle.Granted{Site: other, Resource: "engine-7", Holder: "task:c", Epoch: granted[0].Epoch})
	holds(t, "another site's of that name", oracle.Claims(elsewhere, f.all()[:3]))
	caught(t, "which it knows nothing of", 1, oracle.Claims(elsewhere, f.all()))

	grant("task:d", false)
	old := with(f.all(), town, func(s *oracle.Site) {
		s.Store = lying{Store: s.Store, claim: func(string) (store.Claim, error) {
			return store.Claim{Holder: "task:a", Epoch: before[0].Epoch}, nil
		}}
	})
	caught(t, "an old copy", 1, oracle.Claims(granted, old))
	last := granted[len(granted)-1]
	thief := with(f.all(), town, func(s *oracle.Site) {
		s.Store = lying{Store: s.Store, claim: func(string) (store.Claim, error) { return store.Claim{Holder: "task:x", Epoch: last.Epoch}, nil }}
	})
	caught(t, "held by somebody else", 1, oracle.Claims(granted, thief))
	caught(t, "in no epoch", 1, oracle.Claims([]oracle.Granted{{Site: town, Resource: "r", Holder: "h"}}, nil))
}

// TestCustody plants a conflict of custodians that the view hides, one in which both
// have it, and a custodian who never signed.
func TestCustody(t *testing.T) {
	f := newFederation(t)
	k := f.task(north)
	f.converge()
	f.sign(town, town)
	holds(t, "one signed", oracle.Custody(f.all()))
	f.converge()
	f.act(town, dispatch.Action{By: town, Kind: dispatch.ActionEscalate, Reason: "no_means", To: north, ToTier: tiers.TierDistrict})
	f.converge()
	f.sign(north, north)
	f.converge()
	holds(t, "a handover", oracle.Custody(f.all()))
	f.act(north, dispatch.Action{By: north, Kind: dispatch.ActionDelegate, Reason: "nearer", To: town, ToTier: tiers.TierTownship})
	f.converge()
	f.sign(town, town)
	f.act(city, dispatch.Action{By: city, Kind: dispatch.ActionOverride, Reason: "no_answer"}) // neither saw the other
	holds(t, "before they know", oracle.Custody(f.all()))
	f.converge()
	holds(t, "a conflict that is shown", oracle.Custody(f.all()))

	hide := func(from, to string) []oracle.Site {
		var out []oracle.Site
		for _, s := range f.all() {
			view := s.View
			s.View = func(k store.DocKey) (crdt.View, error) {
				v, err := view(k)
				if !bytes.Contains(v.JSON, []byte(from)) {
					t.Fatalf("no %s in %s", from, v.JSON)
				}
				v.JSON = bytes.ReplaceAll(v.JSON, []byte(from), []byte(to))
				return v, err
			}
			out = append(out, s)
		}
		return out
	}
	v, err := f.sites[city].view.View(k)
	if err != nil || !bytes.Contains(v.JSON, []byte(`"custodian":"500000"`)) || !bytes.Contains(v.JSON, []byte(`"stand_down":[{"site":"500101001","to":"500000"`)) {
		t.Fatalf("%s, %v", v.JSON, err)
	}
	caught(t, "a conflict that is hidden", 1, oracle.Custody(hideAll(hide, `"conflicts":`, `"hidden":`, `"by":"500101001"`, `"by":"500101"`)))
	caught(t, "both have it", 1, oracle.Custody(hide(`"overruled":`, `"allowed":`)))
	caught(t, "one who never signed", 1, oracle.Custody(hide(`"custodian":"500000"`, `"custodian":"500102"`)))
	caught(t, "the one who lost", 1, oracle.Custody(hide(`"custodian":"500000"`, `"custodian":"500101001"`)))
	caught(t, "who lost is not told", 1, oracle.Custody(hide(`"stand_down":`, `"hidden":`)))
	holds(t, "shown as a conflict", oracle.Custody(hide(`"actions":[`, `"hidden":[`)))
	f.sign(city, north)
	f.converge()
	caught(t, "in another's name", 1, oracle.Custody(f.all()))
}

// hideAll replaces two texts in the views.
func hideAll(hide func(from, to string) []oracle.Site, from1, to1, from2, to2 string) []oracle.Site {
	first := hide(from1, to1)
	for i, s := range first {
		view := s.View
		first[i].View = func(k store.DocKey) (crdt.View, error) {
			v, err := view(k)
			v.JSON = bytes.ReplaceAll(v.JSON, []byte(from2), []byte(to2))
			return v, err
		}
	}
	return first
}
