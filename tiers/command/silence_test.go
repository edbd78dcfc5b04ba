package command_test

import (
	"encoding/json"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/command"
)

// TestSilence: who is silent, behind whom, and who says so, against a reading of the
// rules site by site.
func TestSilence(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		top := federation(t)
		o := command.Observed{
			Self: rapid.SampledFrom([]tiers.SiteID{"c", "c", "d1", "d1a"}).Draw(t, "self"), NowMS: 100, SinceMS: rapid.Int64Range(0, 100).Draw(t, "since"),
			Contacts: map[tiers.SiteID]command.Contact{}, Limits: map[tiers.SiteID]int64{}, Said: map[tiers.SiteID]map[tiers.SiteID]bool{},
		}
		for _, site := range sites {
			o.Contacts[site] = command.Contact{AtMS: rapid.Int64Range(0, 100).Draw(t, "contact"), Live: rapid.IntRange(0, 3).Draw(t, "live") == 0}
			o.Limits[site] = rapid.Int64Range(1, 60).Draw(t, "limit")
			o.Said[site] = map[tiers.SiteID]bool{}
			for _, of := range sites {
				o.Said[site][of] = rapid.Bool().Draw(t, "said")
			}
		}
		got := command.Judge(top, o)
		heard := func(site tiers.SiteID) bool {
			return o.Contacts[site].Live || o.NowMS-o.Contacts[site].AtMS < o.Limits[site]
		}
		// patient: it may be that it would have been heard, had this site listened.
		patient := func(site tiers.SiteID) bool { return !heard(site) && o.NowMS-o.SinceMS < o.Limits[site] }
		n := 0
		for _, site := range sites {
			v, below := got[site]
			if below != slices.Contains(above[site], o.Self) {
				t.Fatalf("a verdict on %s: %v", site, below)
			}
			if !below {
				continue
			}
			n++
			parent := above[site][0]
			var want command.Verdict
			switch {
			case heard(site):
				want = command.Verdict{Heard: true, By: o.Self}
			case parent != o.Self && heard(parent):
				want = command.Verdict{Silent: o.Said[parent][site], Heard: !o.Said[parent][site], By: parent}
			case patient(site) || parent != o.Self && patient(parent):
				want = command.Verdict{By: o.Self}
			case parent == o.Self:
				want = command.Verdict{Silent: true, By: o.Self}
			default:
				want = command.Verdict{Silent: true, By: o.Self, Behind: parent}
			}
			if v != want {
				t.Fatalf("%s at %s: %+v, want %+v in %+v", site, o.Self, v, want, o)
			}
			if v.Raises(o.Self) && (heard(site) || parent != o.Self && heard(parent)) {
				t.Fatalf("%s raises the alert of %s: %+v", o.Self, site, v)
			}
		}
		if n != len(got) {
			t.Fatalf("%d verdicts, want %d", len(got), n)
		}
	})
}

// TestSilenceFold: a silence goes on or has ended by its last step, in any order, and
// nobody else's step counts.
func TestSilenceFold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		head := write{"d1", text(t, command.Alert{Site: "d1a", By: "d1", SinceMS: 7, LimitMS: 9})}
		var writes []write
		last, open := crdt.HybridTime(0), false
		for i := range rapid.IntRange(0, 6).Draw(t, "steps") {
			s := command.SilenceStep{
				At: crdt.HybridTime(rapid.IntRange(1, 5).Draw(t, "at")*10 + i), By: rapid.SampledFrom([]tiers.SiteID{"d1", "d1", "c"}).Draw(t, "by"),
				Kind: rapid.SampledFrom([]string{command.SilenceRaised, command.SilenceCleared, "dance"}).Draw(t, "kind"),
			}
			writes = append(writes, write{s.By, text(t, s)})
			if s.By == "d1" && s.Kind != "dance" && s.At > last {
				last, open = s.At, s.Kind == command.SilenceRaised
			}
		}
		fold := func(ws []write) (v command.SilenceView, index []crdt.IndexEntry) {
			made, err := command.FoldSilence(source(tiers.StreamID{Site: "d1", Class: tiers.ClassUrgent}, "silence:x", head, ws))
			if err == nil {
				err = json.Unmarshal(made.JSON, &v)
			}
			if err != nil {
				t.Fatal(err)
			}
			v.Malformed = 0
			return v, made.Index
		}
		v, index := fold(writes)
		if other, _ := fold(rapid.Permutation(append(slices.Clone(writes), writes...)).Draw(t, "shuffled")); text(t, other) != text(t, v) {
			t.Fatalf("%+v\nor %+v", v, other)
		}
		listed := slices.ContainsFunc(index, func(e crdt.IndexEntry) bool { return e.Name == command.IndexSilenceOpen })
		if v.Open != open || listed != open {
			t.Fatalf("open %v, listed %v, want %v: %+v", v.Open, listed, open, v)
		}
	})
}

// TestSilenceIDs: the same silence has the same alert, another another one.
func TestSilenceIDs(t *testing.T) {
	seen := map[tiers.DocID]bool{}
	for _, by := range []tiers.SiteID{"c", "d1"} {
		for _, site := range []tiers.SiteID{"d1a", "d1b"} {
			for _, since := range []int64{0, 1} {
				id := command.AlertID(by, site, since)
				if id.Validate() != nil || seen[id] || id != command.AlertID(by, site, since) {
					t.Errorf("%s of %s %s %d", id, by, site, since)
				}
				seen[id] = true
			}
		}
	}
}
