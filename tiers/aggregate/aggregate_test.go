package aggregate_test

import (
	"encoding/json"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/engine"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/aggregate"
)

// tree is a city, two districts, the first with two townships, and a township that
// has ended.
func tree(t interface{ Fatal(...any) }, moved bool) *tiers.Topology {
	under := tiers.SiteID("500101")
	if moved {
		under = "500102"
	}
	out, err := tiers.NewTopology(tiers.TopologyDoc{Federation: "cq", Version: 1, Sites: []tiers.Site{
		{ID: "500000", Tier: tiers.TierCity}, {ID: "500101", Tier: tiers.TierDistrict, Parent: "500000"},
		{ID: "500102", Tier: tiers.TierDistrict, Parent: "500000"}, {ID: "500101001", Tier: tiers.TierTownship, Parent: "500101"},
		{ID: "500101002", Tier: tiers.TierTownship, Parent: under}, {ID: "500101009", Tier: tiers.TierTownship, Parent: "500101", Retired: true},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestKnown(t *testing.T) {
	told := func(peer tiers.SiteID, lost int64) map[tiers.SiteID][]aggregate.Contact {
		return map[tiers.SiteID][]aggregate.Contact{"500101": {{Peer: peer, LostMS: lost}}}
	}
	for name, row := range map[string]struct {
		k    aggregate.Knowledge
		want int64 // of 500101001 at the city
	}{
		"nothing":                  {aggregate.Knowledge{}, 0},
		"told in contact":          {aggregate.Knowledge{Direct: map[tiers.SiteID]int64{"500101": 90}, Told: told("500101001", 0)}, 90},
		"told, then it is silent":  {aggregate.Knowledge{Direct: map[tiers.SiteID]int64{"500101": 30}, Told: told("500101001", 0)}, 30},
		"told lost":                {aggregate.Knowledge{Direct: map[tiers.SiteID]int64{"500101": 90}, Told: told("500101001", 40)}, 40},
		"lost after what is known": {aggregate.Knowledge{Direct: map[tiers.SiteID]int64{"500101": 30}, Told: told("500101001", 40)}, 30},
		"told nothing of it":       {aggregate.Knowledge{Direct: map[tiers.SiteID]int64{"500101": 90}, Told: told("500101002", 0)}, 0},
		"told by another":          {aggregate.Knowledge{Direct: map[tiers.SiteID]int64{"500102": 90}, Told: map[tiers.SiteID][]aggregate.Contact{"500102": {{Peer: "500101001"}}}}, 0},
		"a record of its own":      {aggregate.Knowledge{Newest: map[tiers.SiteID]int64{"500101001": 20}, Told: told("500101001", 10), Direct: map[tiers.SiteID]int64{"500101": 90}}, 20},
		"linked itself":            {aggregate.Knowledge{Direct: map[tiers.SiteID]int64{"500101001": 95, "500101": 30}, Told: told("500101001", 10)}, 95},
		"its clock is ahead":       {aggregate.Knowledge{Newest: map[tiers.SiteID]int64{"500101001": 500}}, 100},
		"the district never heard": {aggregate.Knowledge{Told: told("500101001", 0)}, 0},
	} {
		row.k.Self, row.k.NowMS = "500000", 100
		got := row.k.Known(tree(t, false))
		if got["500101001"] != row.want || got["500000"] != 100 {
			t.Errorf("%s: %v, want %d", name, got, row.want)
		}
	}
}

func TestAreaFollowsTopology(t *testing.T) {
	for moved, want := range map[bool]int{false: 3, true: 2} {
		if got := aggregate.Area(tree(t, moved), "500101"); len(got) != want || slices.Contains(got, "500101009") {
			t.Errorf("moved %v: %v", moved, got)
		}
	}
	for _, gone := range []tiers.SiteID{"500101009", "500999", ""} {
		if got := aggregate.Area(tree(t, false), gone); got != nil {
			t.Errorf("%s: %v", gone, got)
		}
	}
}

// TestCover: the numbers are those of a naive count.
func TestCover(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		sites := []tiers.SiteID{"500000", "500101", "500102", "500101001", "500101002"}[:rapid.IntRange(0, 5).Draw(t, "sites")]
		known, since := map[tiers.SiteID]int64{}, rapid.Int64Range(-5, 30).Draw(t, "since")
		covered, oldest := 0, int64(0)
		for _, s := range sites {
			if known[s] = rapid.Int64Range(0, 30).Draw(t, "at"); known[s] > 0 && known[s] >= since {
				covered++
				if oldest == 0 || known[s] < oldest {
					oldest = known[s]
				}
			}
		}
		got := aggregate.Cover(sites, known, since)
		if got.Sites != len(sites) || got.Covered != covered || got.OldestMS != oldest || len(got.Missing) != len(sites)-covered {
			t.Fatalf("%+v, want %d covered, oldest %d", got, covered, oldest)
		}
		for _, m := range got.Missing {
			if known[m.Site] != m.KnownMS {
				t.Fatalf("%+v", m)
			}
		}
	})
}

// TestContactFold: a contact says what it was last given, and its index entry all
// that its view does.
func TestContactFold(t *testing.T) {
	author := crdt.Author{Site: "500101", Incarnation: 1}
	actor := crdt.NewActor(author, [8]byte{1})
	var all [][]byte
	for _, lost := range []int64{0, 1_700_000_000_000, -3} {
		b, err := engine.New().Build(all, actor, 1, aggregate.Contact{Peer: "500101001", LostMS: lost}.Ops())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b.Raw)
		doc, err := engine.New().Read(all)
		if err != nil {
			t.Fatal(err)
		}
		v, err := aggregate.FoldContact(&crdt.Source{
			Stream: tiers.StreamID{Site: "500101", Class: tiers.ClassReading}, Doc: aggregate.ContactDoc("500101001"),
			Document: doc, Authors: map[crdt.Actor]crdt.Author{actor: author},
		})
		if err != nil || !json.Valid(v.JSON) || v.Index[0].Name != aggregate.IndexContact {
			t.Fatalf("%+v, %v", v, err)
		}
		if c, ok := aggregate.ReadContact(v.Index[0].Value); !ok || c.Peer != "500101001" || c.LostMS != max(lost, 0) {
			t.Errorf("%s: %+v", v.Index[0].Value, c)
		}
	}
	if v, err := aggregate.FoldContact(&crdt.Source{Doc: "contact:x", Document: &crdt.Document{}}); err != nil || v.Index[0].Name == aggregate.IndexContact {
		t.Errorf("a contact with nobody: %+v, %v", v, err)
	}
}

// FuzzReadContact: what is read is what would be written.
func FuzzReadContact(f *testing.F) {
	for _, s := range []string{"500101001/0", "500101001/1700000000000", "/", "x", "500101001/-1", "a/99999999999999999999"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if c, ok := aggregate.ReadContact(s); ok && c.LostMS < 0 {
			t.Errorf("%q: %+v", s, c)
		}
	})
}
