package netns_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/testbed/netns"
	"github.com/tiermesh/tiermesh/testbed/run"
	"github.com/tiermesh/tiermesh/testbed/scenario"
)

// TestOldDiskAndClone puts an old copy of a township's disk back, and starts
// another copy beside it: the mesh finds both.
func TestOldDiskAndClone(t *testing.T) {
	w := open(t, federation)
	acked := w.report(township, "a", "b")
	w.act(scenario.ActBackup, township, 0)
	acked = append(acked, w.report(township, "c", "d")...)
	w.equal()
	first, err := w.site(township).Status(w.ctx)
	if err != nil {
		t.Fatal(err)
	}
	w.act(scenario.ActRestoreBackup, township, 0)
	w.until("the rollback to be found", func() bool {
		s, err := w.site(township).Status(w.ctx)
		return err == nil && s.Incarnation > first.Incarnation
	})
	acked = append(acked, w.report(township, "e")...)
	w.equal()
	w.act(scenario.ActClone, township, 0)
	c := api.NewClient("unix:" + filepath.Join(w.dir, string(township), "clone-1", "api.sock"))
	defer c.Close()
	w.until("the clone to find that it is of an old disk", func() bool {
		s, err := c.Status(w.ctx)
		return err == nil && s.Site == township && strings.Contains(fmt.Sprint(s.Alarms), "rolled back")
	})
	w.same(acked, township, district, city)
}

// TestDiskFull fills a site's disk: the site ends, and goes on when there is room.
func TestDiskFull(t *testing.T) {
	w := open(t, federation+"disk-full 500101001\n")
	acked := w.report(township, "a")
	if err := w.Act(w.ctx, scenario.Act{Kind: scenario.ActDiskFull, Site: district}); !errors.Is(err, run.ErrUnsupported) {
		t.Errorf("a disk that the script does not fill: %v", err)
	}
	w.act(scenario.ActDiskFull, township, 0)
	s := w.site(township)
	w.until("the site to end", func() bool {
		_, _ = s.Report(w.ctx, request(fmt.Sprint("full", len(acked))))
		_, err := w.Site(township)
		return errors.Is(err, run.ErrDown)
	})
	w.act(scenario.ActStart, township, 0)
	acked = append(acked, w.report(township, "b")...)
	w.equal()
	w.same(acked, township, district, city)
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if netns.Mounted(w.dir) {
		t.Error("a disk is left mounted")
	}
}

// TestBitrot flips a bit in a table under a running site: a scrub finds it.
func TestBitrot(t *testing.T) {
	w := open(t, federation)
	for i := range 50 {
		w.report(township, fmt.Sprint(i))
	}
	before, err := w.scrub(township)
	if err != nil || len(before.Findings) > 0 {
		t.Fatalf("before: %+v, %v", before, err)
	}
	w.act(scenario.ActBitrot, township, 0)
	after, err := w.scrub(township)
	if err != nil || len(after.Findings) == 0 {
		t.Errorf("after: %+v, %v", after, err)
	}
}
