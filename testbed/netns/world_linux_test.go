package netns_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/testbed/content"
	"github.com/tiermesh/tiermesh/testbed/netns"
	"github.com/tiermesh/tiermesh/testbed/run"
	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
)

func tiersID(s string) tiers.SiteID { return tiers.SiteID(s) }

// envWorld makes the test binary open a world in a directory, say so, and wait.
const envWorld = "TIERMESH_TEST_WORLD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(envWorld); dir != "" {
		waitToBeKilled(dir)
	}
	code := m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// built is the command, once it was asked for.
var built struct {
	once sync.Once
	dir  string
	err  error
}

// command returns the path of the tiermesh command, built from this tree.
func command(t *testing.T) string {
	t.Helper()
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "netns"); built.err != nil {
			return
		}
		out, err := exec.Command("go", "build", "-o", built.dir, "github.com/tiermesh/tiermesh/cmd/tiermesh").CombinedOutput()
		if err != nil {
			built.err = fmt.Errorf("%w: %s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return filepath.Join(built.dir, "tiermesh")
}

const (
	city     = tiers.SiteID("500000")
	district = tiers.SiteID("500101")
	other    = tiers.SiteID("500102")
	township = tiers.SiteID("500101001")
)

const federation = `site 500000 city
site 500101 district under 500000
site 500102 district under 500000
site 500101001 township under 500101
`

func script(t *testing.T, text string) *scenario.Script {
	t.Helper()
	s, err := scenario.Parse("test", strings.NewReader(text+"after 1s\n"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func limited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

type world struct {
	*netns.World
	dir string
	t   *testing.T
	ctx context.Context //nolint:containedctx // the test's
}

// open opens a world, which must leave nothing behind.
func open(t *testing.T, text string) *world {
	t.Helper()
	needs(t)
	dir := t.TempDir()
	w := &world{netns.New(netns.Config{Dir: dir, Command: command(t)}), dir, t, limited(t)}
	if err := w.Open(w.ctx, script(t, text), nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		pids := w.Pids()
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		nothingLeft(t, w.Prefix(), pids)
	})
	return w
}

func nothingLeft(t *testing.T, prefix string, pids []string) {
	t.Helper()
	if left := netns.Left(prefix); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	for _, pid := range pids {
		if !netns.Gone(pid) {
			t.Errorf("process %s is left", pid)
		}
	}
}

// until polls until done.
func (w *world) until(what string, done func() bool) {
	w.t.Helper()
	for !done() {
		select {
		case <-w.ctx.Done():
			w.t.Fatalf("waited for: %s", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (w *world) site(id tiers.SiteID) run.Site {
	w.t.Helper()
	s, err := w.Site(id)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func (w *world) act(kind scenario.ActKind, id tiers.SiteID, node uint32) {
	w.t.Helper()
	if err := w.Act(w.ctx, scenario.Act{Kind: kind, Site: id, Node: node}); err != nil {
		w.t.Fatal(err)
	}
}

// report reports events until they are acknowledged.
func (w *world) report(id tiers.SiteID, keys ...string) (acked []store.DocKey) {
	w.t.Helper()
	for _, key := range keys {
		r := request(key)
		w.until("a report to be acknowledged: "+key, func() bool {
			s, err := w.Site(id)
			if err != nil {
				return false
			}
			done, err := s.Report(w.ctx, r)
			if err != nil {
				return false
			}
			stream := tiers.StreamID{Site: id, Class: event.Class(r.Report.Priority)}
			acked = append(acked, store.DocKey{Stream: stream, Doc: done.ID})
			return true
		})
	}
	return acked
}

func request(key string) api.ReportRequest {
	return api.ReportRequest{Key: key, Report: event.Report{Type: "01001", Title: "井盖", Priority: 3, SourceKey: key}}
}

// scrub reads everything at a site again.
func (w *world) scrub(id tiers.SiteID) (api.ScrubReport, error) {
	c := api.NewClient("unix:" + filepath.Join(w.dir, string(id), "api.sock"))
	defer c.Close()
	return c.Scrub(w.ctx)
}

// link returns the state of a site's link to another one.
func (w *world) link(id, peer tiers.SiteID) (out api.LinkStatus) {
	w.t.Helper()
	s, err := w.site(id).Status(w.ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, l := range s.Links {
		if l.Peer == peer {
			out = l
		}
	}
	return out
}

// equal waits until both ends of every link are proven to hold the same.
func (w *world) equal() {
	w.t.Helper()
	for _, l := range [][2]tiers.SiteID{{district, city}, {other, city}, {township, district}} {
		for _, ends := range [][2]tiers.SiteID{l, {l[1], l[0]}} {
			w.until(fmt.Sprint(ends, " to be equal"), func() bool {
				s := w.link(ends[0], ends[1])
				return s.Equal && s.OwedIn+s.OwedOut == 0
			})
		}
	}
}

// same freezes the world and compares what sites read of documents.
func (w *world) same(acked []store.DocKey, at ...tiers.SiteID) {
	w.t.Helper()
	if _, err := w.Read(at[0]); !errors.Is(err, run.ErrUnsupported) {
		w.t.Errorf("read before the end: %v", err)
	}
	if err := w.Freeze(w.ctx); err != nil {
		w.t.Fatal(err)
	}
	for _, k := range acked {
		var want []byte
		for _, id := range at {
			s, err := w.Read(id)
			if err != nil {
				w.t.Fatal(err)
			}
			v, err := s.View(k)
			if want == nil {
				want = v.JSON
			}
			if err != nil || len(v.JSON) == 0 || !bytes.Equal(v.JSON, want) {
				w.t.Errorf("%s at %s: %s, %v; want %s", k, id, v.JSON, err, want)
			}
		}
	}
}

// TestPartition is the main job: a district is cut off one way, what it owes
// grows, and after the heal every site holds the same.
func TestPartition(t *testing.T) {
	w := open(t, federation)
	entries, err := content.Catalog()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.site(city).Publish(w.ctx, "catalog", entries); err != nil {
		t.Fatal(err)
	}
	acked := w.report(township, "before-1", "before-2")
	w.equal()
	if err := w.Line(district, city, scenario.Line{Cut: true}); err != nil {
		t.Fatal(err)
	}
	acked = append(acked, w.report(township, "cut-1", "cut-2", "cut-3")...)
	w.until("what the district owes to grow", func() bool { return w.link(district, city).OwedOut >= 3 })
	if v, err := w.site(city).View(w.ctx, "event", acked[4].Doc.Name()); err == nil {
		t.Errorf("the city has %s over a cut line", v)
	}
	if err := w.Line(district, city, scenario.Line{BitsPerSecond: 10_000_000, Delay: 5 * time.Millisecond, Loss: 0.02}); err != nil {
		t.Fatal(err)
	}
	w.equal()
	if u := w.Usage(); u.WireBytes == 0 || u.RSSBytes < 4<<20 || u.CPUSeconds == 0 {
		t.Errorf("usage %+v", u)
	}
	if out := w.link(township, district); out.State != "connected" {
		t.Errorf("the township's link: %+v", out)
	}
	catalogued, err := w.site(township).View(w.ctx, "board", strings.TrimPrefix(string(entries[0].Doc), "board:"))
	if err != nil || len(catalogued) != 1 {
		t.Errorf("the catalog at the township: %s, %v", catalogued, err)
	}
	w.same(acked, township, district, city)
	s, err := w.Read(other)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.View(acked[0]); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("the other district has an event: %v", err)
	}
}

// TestPauseKillStart: a site that is paused or killed is down, and comes back with
// all that it acknowledged.
func TestPauseKillStart(t *testing.T) {
	w := open(t, federation)
	acked := w.report(township, "a")
	w.act(scenario.ActPause, township, 0)
	if _, err := w.Site(township); !errors.Is(err, run.ErrDown) {
		t.Errorf("paused: %v", err)
	}
	w.act(scenario.ActResume, township, 0)
	acked = append(acked, w.report(township, "b")...)
	cpu := w.Usage().CPUSeconds
	w.act(scenario.ActKill, township, 0)
	w.act(scenario.ActPause, district, 0)
	w.act(scenario.ActKill, district, 0) // paused
	for _, id := range []tiers.SiteID{township, district} {
		if _, err := w.Site(id); !errors.Is(err, run.ErrDown) {
			t.Errorf("killed %s: %v", id, err)
		}
		w.act(scenario.ActStart, id, 0)
	}
	acked = append(acked, w.report(township, "c")...)
	if now := w.Usage().CPUSeconds; now < cpu {
		t.Errorf("processor time went from %v to %v", cpu, now)
	}
	w.equal()
	w.act(scenario.ActKill, other, 0)
	w.same(acked, township, district, city)
	if _, err := w.Read(other); !errors.Is(err, run.ErrDown) {
		t.Errorf("read a site that is down: %v", err)
	}
}

// TestUnsupported: what this world cannot do it says, and Supports says the same.
func TestUnsupported(t *testing.T) {
	w := open(t, "site 500000 city\nnodes 3 at 500000\n")
	for _, kind := range []scenario.ActKind{scenario.ActClock, scenario.ActFsyncError, scenario.ActUpgrade} {
		if err := w.Act(w.ctx, scenario.Act{Kind: kind, Site: city, By: time.Hour}); !errors.Is(err, run.ErrUnsupported) || w.Supports(kind) {
			t.Errorf("%s: %v, supported %v", kind, err, w.Supports(kind))
		}
	}
	if err := w.site(city).Publish(w.ctx, "k", nil); !errors.Is(err, run.ErrUnsupported) {
		t.Errorf("publish at three nodes: %v", err)
	}
	if err := w.Line(city, "nowhere", scenario.Line{}); !errors.Is(err, netns.ErrConfig) {
		t.Errorf("line to nowhere: %v", err)
	}
	// A minority of the nodes may go.
	acked := w.report(city, "a")
	w.act(scenario.ActKill, city, 1)
	acked = append(acked, w.report(city, "b")...)
	w.act(scenario.ActStart, city, 1)
	w.act(scenario.ActPause, city, 2)
	acked = append(acked, w.report(city, "c")...)
	w.act(scenario.ActResume, city, 2)
	w.same(acked, city)
}
