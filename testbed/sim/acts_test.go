package sim_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/testbed/content"
	"github.com/tiermesh/tiermesh/testbed/run"
	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// TestKillKeepsAcknowledged: what a site acknowledged survives a crash that loses
// what was not flushed, time and again.
func TestKillKeepsAcknowledged(t *testing.T) {
	in(t, nil, func(w *world) {
		want := uint64(0)
		for round := range 10 {
			w.report(township, 7)
			want += 7
			if round%3 == 0 {
				if err := w.node(township).Group().Store().Flush(); err != nil {
					t.Fatal(err)
				}
			}
			w.act(scenario.ActKill, township)
			if _, err := w.Site(township); !errors.Is(err, run.ErrDown) {
				t.Fatalf("a killed site is there: %v", err)
			}
			w.act(scenario.ActStart, township)
			if got := w.held(township); got != want {
				t.Fatalf("round %d: %d records of %d are left", round, got, want)
			}
		}
		w.everywhere(want)
	})
}

// TestDiskFaults: a disk that fails takes the site down, start mends it, nothing
// acknowledged is lost.
func TestDiskFaults(t *testing.T) {
	for _, kind := range []scenario.ActKind{scenario.ActFsyncError, scenario.ActDiskFull} {
		t.Run(string(kind), func(t *testing.T) {
			in(t, nil, func(w *world) {
				w.report(township, 20)
				w.act(kind, township)
				w.wait("end of the site", func() bool { _, err := w.Site(township); return errors.Is(err, run.ErrDown) })
				w.act(scenario.ActStart, township)
				w.report(township, 2)
				w.everywhere(22)
			})
		})
	}
}

// TestRestoreBackup: a site that was rolled back finds that out from its peers, goes
// on in a new incarnation, and has everything that they had of it.
func TestRestoreBackup(t *testing.T) {
	in(t, nil, func(w *world) {
		w.report(township, 4)
		w.everywhere(4)
		w.act(scenario.ActBackup, township)
		w.report(township, 5)
		w.everywhere(9)
		w.act(scenario.ActRestoreBackup, township)
		w.wait("new incarnation", func() bool { return w.node(township).Group().Store().Incarnation() == 2 })
		w.everywhere(9)
		w.report(township, 1)
		w.everywhere(10)
	})
}

// TestClone: a second site on a copy of the disk is found out, and what both
// acknowledged is everywhere.
func TestClone(t *testing.T) {
	in(t, nil, func(w *world) {
		w.report(township, 3)
		w.everywhere(3)
		w.act(scenario.ActBackup, township)
		w.act(scenario.ActClone, township)
		w.report(township, 6) // to both
		w.wait("fence", func() bool {
			return len(w.node(township).Alarms())+len(w.node(district).Alarms()) > 0
		})
		events := func() int {
			hits, err := w.node(city).Group().Store().Index(store.IndexQuery{Name: event.IndexEvent})
			if err != nil {
				t.Fatal(err)
			}
			return len(hits)
		}
		w.wait("nine events at the city", func() bool { return events() == 9 })
		w.act(scenario.ActKill, township)
		w.act(scenario.ActStart, township)
		w.report(township, 2)
		w.wait("eleven events at the city", func() bool { return events() == 11 })
	})
}

// TestOneOfThree: a site of three nodes goes on without any one of them, and that
// one comes back.
func TestOneOfThree(t *testing.T) {
	in(t, map[tiers.SiteID]int{township: 3}, func(w *world) {
		w.report(township, 3)
		for n := range uint32(3) {
			w.do(scenario.Act{Kind: scenario.ActKill, Site: township, Node: n + 1})
			w.report(township, 3)
			w.do(scenario.Act{Kind: scenario.ActStart, Site: township, Node: n + 1})
		}
		w.everywhere(12)
		w.do(scenario.Act{Kind: scenario.ActPause, Site: township, Node: w.node(township).ID().Node})
		w.report(township, 1)
		w.everywhere(13)
	})
}

// TestPause: a paused site neither hears nor answers, and then goes on.
func TestPause(t *testing.T) {
	in(t, nil, func(w *world) {
		w.report(township, 1)
		w.everywhere(1)
		w.act(scenario.ActPause, district)
		if _, err := w.Site(district); !errors.Is(err, run.ErrDown) {
			t.Errorf("a paused site answers: %v", err)
		}
		pass(20 * time.Second)
		w.report(township, 1)
		if w.held(district) != 1 {
			t.Error("a paused site hears")
		}
		w.act(scenario.ActResume, district)
		w.everywhere(2)
	})
}

// TestBitrot: a flipped bit is found, by a scrub or before, and no view is wrong.
func TestBitrot(t *testing.T) {
	in(t, nil, func(w *world) {
		w.report(township, 30)
		w.everywhere(30)
		w.act(scenario.ActBitrot, district)
		n := w.node(district)
		if _, err := n.Backend().Scrub(w.t.Context()); err != nil {
			t.Fatal(err)
		}
		if a := n.Alarms(); len(a) == 0 {
			t.Error("nobody noticed")
		}
		site, err := w.Read(district)
		if err != nil {
			t.Fatal(err)
		}
		other, err := w.Read(city)
		if err != nil {
			t.Fatal(err)
		}
		hits, err := w.node(city).Group().Store().Index(store.IndexQuery{Name: event.IndexEvent})
		if err != nil || len(hits) != 30 {
			t.Fatalf("%d events: %v", len(hits), err)
		}
		for _, h := range hits {
			want, err := other.View(h.Key)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := site.View(h.Key); err == nil && string(got.JSON) != string(want.JSON) {
				t.Errorf("%s is %s, want %s", h.Key, got.JSON, want.JSON)
			}
		}
	})
}

// TestClock: one site's clock is moved, and only its.
func TestClock(t *testing.T) {
	in(t, nil, func(w *world) {
		w.do(scenario.Act{Kind: scenario.ActClock, Site: township, By: time.Hour})
		w.report(township, 1)
		w.everywhere(1)
		ahead := time.Duration(w.node(township).Group().Clock().Now().Millis())*time.Millisecond - time.Duration(time.Now().UnixMilli())*time.Millisecond
		if ahead < 59*time.Minute {
			t.Errorf("the site is %v ahead", ahead)
		}
	})
}

// TestUpgrade: a site that a script upgrades begins without the protocol's features
// and has them afterwards.
func TestUpgrade(t *testing.T) {
	script := script(nil)
	script.Steps = []scenario.Step{{Do: scenario.Act{Kind: scenario.ActUpgrade, Site: district}}}
	played(t, script, func(w *world) {
		lacks := func() uint64 {
			for _, l := range w.node(city).Links() {
				if l.Peer == district {
					return l.Findings.Lacks
				}
			}
			return 0
		}
		w.report(township, 1)
		w.everywhere(1)
		w.wait("an older end", func() bool { return lacks() > 0 })
		w.act(scenario.ActUpgrade, district)
		w.report(township, 1)
		w.everywhere(2)
		w.wait("all features", func() bool { return lacks() == 0 })
	})
}

// TestNothing: acts that cannot be done say so.
func TestNothing(t *testing.T) {
	in(t, map[tiers.SiteID]int{district: 3}, func(w *world) {
		for _, tt := range []struct {
			a    scenario.Act
			want string
		}{
			{scenario.Act{Kind: scenario.ActRestoreBackup, Site: township}, "no backup"},
			{scenario.Act{Kind: scenario.ActClone, Site: township}, "no backup"},
			{scenario.Act{Kind: scenario.ActClone, Site: district}, "several nodes"},
			{scenario.Act{Kind: scenario.ActKill, Site: township, Node: 2}, "no node 2"},
			{scenario.Act{Kind: "melt", Site: township}, "not possible"},
		} {
			if err := w.Act(w.t.Context(), tt.a); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%+v: %v, want %q", tt.a, err, tt.want)
			}
		}
	})
}

// TestWritersQueue: writers of one document at a site of three nodes wait for each
// other while virtual time passes; on a mutex they stopped it (random seed 19).
func TestWritersQueue(t *testing.T) {
	in(t, map[tiers.SiteID]int{city: 3}, func(w *world) {
		entries, err := content.Catalog()
		if err != nil {
			t.Fatal(err)
		}
		s, err := w.Site(city)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Publish(w.t.Context(), "catalog", entries); err != nil {
			t.Fatal(err)
		}
		tracks, err := w.node(city).Group().Store().Index(store.IndexQuery{Name: "track", Limit: 1})
		if err != nil || len(tracks) == 0 {
			t.Fatalf("%d tracks, %v", len(tracks), err)
		}
		var g errgroup.Group // each goroutine ends with its edit
		for i := range 8 {
			g.Go(func() error {
				_, err := s.EditTrack(w.t.Context(), api.EditRequest{
					Key: fmt.Sprint(i), Site: city, Code: tracks[0].Key.Doc.Name(), Fields: map[string]string{"name": fmt.Sprint(i)},
				})
				return err
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
	})
}
