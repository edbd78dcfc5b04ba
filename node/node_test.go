package node_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/engine"
	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/testbed/local"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
	"github.com/tiermesh/tiermesh/tiers/event"
	"github.com/tiermesh/tiermesh/transport"
	"github.com/tiermesh/tiermesh/transport/identity"
)

// TestMain is also the worker process of these tests.
func TestMain(m *testing.M) {
	if os.Getenv("TIERMESH_TEST_ENGINE") != "" {
		if err := engine.Work(engine.WorkerConfig{}, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

const (
	city     = tiers.SiteID("500000")
	district = tiers.SiteID("500101")
	township = tiers.SiteID("500101001")
)

func limited(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// mesh is a city, a district and a township.
type mesh struct {
	*local.Cluster
	t   *testing.T
	dir string
	n   int // reports made
}

func newMesh(t *testing.T) *mesh { return newMeshWith(t, local.Config{}) }

// newMeshWith is a mesh of sites that are configured so; those of cfg come on top.
func newMeshWith(t *testing.T, cfg local.Config) *mesh {
	t.Helper()
	dir := t.TempDir()
	cfg.Dir, cfg.Federation, cfg.RedialMax, cfg.Engine = dir, "cq", 200*time.Millisecond, worker()
	cfg.Sites = append([]tiers.Site{
		{ID: city, Tier: tiers.TierCity, Name: "重庆市"},
		{ID: district, Tier: tiers.TierDistrict, Name: "万州区", Parent: city},
		{ID: township, Tier: tiers.TierTownship, Name: "高笋塘街道", Parent: district},
	}, cfg.Sites...)
	c, err := local.Open(limited(t), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return &mesh{Cluster: c, t: t, dir: dir}
}

// worker starts this test's program as a worker process.
func worker() []string { return []string{"env", "TIERMESH_TEST_ENGINE=1", os.Args[0]} }

// report takes in n events at the township and returns their documents.
func (m *mesh) report(n int) (out []store.DocKey) {
	m.t.Helper()
	for range n {
		m.n++
		w, err := m.Node(township).Report(limited(m.t), fmt.Sprintf("k%d", m.n), event.Report{
			Type: "01001", Title: fmt.Sprintf("井盖 %d", m.n), Priority: 3, SourceKey: fmt.Sprintf("k%d", m.n),
		})
		if err != nil {
			m.t.Fatal(err)
		}
		out = append(out, store.DocKey{Stream: w.Stream, Doc: w.Doc})
	}
	return out
}

// publishRules gives the default rules to everybody.
func (m *mesh) publishRules() {
	m.t.Helper()
	m.publishTable(dispatch.DefaultRules()...)
}

// publishTable gives the city's rules to everybody.
func (m *mesh) publishTable(rules ...dispatch.Rule) {
	m.t.Helper()
	var entries []node.Entry
	for _, r := range rules {
		ops, err := dispatch.RuleOps(r)
		if err != nil {
			m.t.Fatal(err)
		}
		entries = append(entries, node.Entry{Doc: tiers.NewDocID(dispatch.KindRule, r.Code), Ops: ops})
	}
	if err := m.Node(city).Publish(limited(m.t), "rules "+rules[0].Code, entries); err != nil {
		m.t.Fatal(err)
	}
}

// wait polls until done says so.
func (m *mesh) wait(what string, done func() bool) {
	m.t.Helper()
	ctx := limited(m.t)
	for !done() {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			for _, n := range m.Nodes() {
				m.t.Logf("%s: %v", n.ID().Site, n.Links())
			}
			m.t.Fatalf("waited for: %s", what)
		}
	}
}

// link returns a site's link to a peer.
func (m *mesh) link(site, peer tiers.SiteID) node.LinkState {
	for _, l := range m.Node(site).Links() {
		if l.Peer == peer {
			return l
		}
	}
	return node.LinkState{}
}

// prove proves a link, once more while it is down for a moment.
func (m *mesh) prove(site, peer tiers.SiteID) (p api.ProveResult, err error) {
	m.t.Helper()
	m.wait("an answer to a proof", func() bool {
		p, err = m.Node(site).Backend().Prove(limited(m.t), peer)
		return !errors.Is(err, api.ErrUnavailable)
	})
	return p, err
}

// agreed reports whether both links are proven equal at both ends.
func (m *mesh) agreed() bool {
	for _, ends := range [][2]tiers.SiteID{{township, district}, {district, city}} {
		a, b := m.link(ends[0], ends[1]), m.link(ends[1], ends[0])
		if !a.Equal || !b.Equal || a.Digest != b.Digest {
			return false
		}
	}
	return true
}

// holds fails when a site of the audience lacks one of the documents, or shows
// another view of it than the township.
func (m *mesh) holds(docs []store.DocKey) {
	m.t.Helper()
	for _, k := range docs {
		want, err := m.Node(township).Views().View(k)
		if err != nil {
			m.t.Fatal(err)
		}
		for _, site := range []tiers.SiteID{district, city} {
			if got, err := m.Node(site).Views().View(k); err != nil || string(got.JSON) != string(want.JSON) {
				m.t.Fatalf("%s at %s: %s, %v; want %s", k, site, got.JSON, err, want.JSON)
			}
		}
	}
}

// TestLinkResumes: a link that is cut again and again in the middle of work
// carries every record over, and next to nothing twice.
func TestLinkResumes(t *testing.T) {
	m := newMesh(t)
	var docs []store.DocKey
	for range 4 {
		docs = append(docs, m.report(40)...)
		m.Cut(township, district)
		docs = append(docs, m.report(40)...)
		m.Heal()
	}
	m.wait("sites agree", m.agreed)
	m.holds(docs)
	// A record is written once, and may be in flight at each of four cuts; a
	// flight is at most four batches of what came in meanwhile.
	records := m.Node(township).Group().Store().Counts().Records
	totals := m.link(township, district).Totals
	if totals.SentRecords > records+4*160 {
		t.Errorf("%d records sent, the township wrote %d", totals.SentRecords, records)
	}
	if l := m.link(township, district); l.OwedIn != 0 || l.OwedOut != 0 || l.RTT <= 0 || l.State != "connected" {
		t.Errorf("%v", l)
	}
}

// TestRelay: a township's records reach its district and the city, and
// the catalog reaches it, with the one in between as the only road.
func TestRelay(t *testing.T) {
	m := newMesh(t)
	m.Cut(township, city)
	m.publishRules()
	docs := m.report(5)
	m.wait("sites agree", m.agreed)
	m.holds(docs)
	hits, err := m.Node(township).Group().Store().Index(store.IndexQuery{Name: dispatch.KindRule})
	if err != nil || len(hits) != len(dispatch.DefaultRules()) {
		t.Errorf("%d rules at the township, %v", len(hits), err)
	}
}

// TestDispatchOnce: each event gets one task, whatever is killed when, with the
// links cut.
func TestDispatchOnce(t *testing.T) {
	m := newMesh(t)
	m.publishRules()
	m.wait("rules arrive", m.agreed)
	m.Isolate(township)
	var docs []store.DocKey
	for range 3 {
		docs = append(docs, m.report(60)...)
		if err := m.Crash(township); err != nil {
			t.Fatal(err)
		}
		if err := m.Start(limited(t), township); err != nil {
			t.Fatal(err)
		}
	}
	m.wait("everything is dispatched", func() bool {
		st := m.Node(township).Group().Store()
		hits, err := st.Index(store.IndexQuery{Name: event.IndexUndispatched})
		return err == nil && len(hits) == 0 && st.Counts().Dirty == 0
	})
	m.Heal()
	m.wait("sites agree", m.agreed)
	m.holds(docs)
	for _, n := range m.Nodes() {
		hits, err := n.Group().Store().Index(store.IndexQuery{Name: dispatch.KindTask})
		if err != nil || len(hits) != len(docs) {
			t.Errorf("%s: %d tasks for %d events, %v", n.ID().Site, len(hits), len(docs), err)
		}
	}
	for _, k := range docs {
		v, err := m.Node(city).Views().View(k)
		if err != nil {
			t.Fatal(err)
		}
		var ev event.View
		if err := json.Unmarshal(v.JSON, &ev); err != nil {
			t.Fatal(err)
		}
		if len(ev.Actions) != 1 || ev.State != event.StateDispatched || len(ev.Tasks) != 1 || ev.Tasks[0] != dispatch.TaskID(k.Doc) {
			t.Errorf("%s", v.JSON)
		}
	}
}

// TestDispatchOwnBehindOthers: a site that holds more undispatched events of
// the sites below than a batch still dispatches its own.
func TestDispatchOwnBehindOthers(t *testing.T) {
	m := newMesh(t)
	m.report(70) // nobody has rules yet
	m.wait("sites agree", m.agreed)
	m.Isolate(township)
	w, err := m.Node(district).Report(limited(t), "own", event.Report{Type: "01001", Title: "区县", Priority: 3})
	if err != nil {
		t.Fatal(err)
	}
	m.publishRules()
	key := store.DocKey{Stream: w.Stream, Doc: w.Doc}
	m.wait("the district dispatches its own", func() bool {
		v, err := m.Node(district).Views().View(key)
		return err == nil && strings.Contains(string(v.JSON), `"state":"dispatched"`)
	})
}

// TestRollback: a site that comes back from an old copy of its directory is
// told so, starts a new incarnation, takes its lost records back and goes on.
func TestRollback(t *testing.T) {
	m := newMesh(t)
	docs := m.report(10)
	m.wait("sites agree", m.agreed)
	data := filepath.Join(m.dir, string(township), "data")
	if err := m.Crash(township); err != nil {
		t.Fatal(err)
	}
	backup := filepath.Join(t.TempDir(), "backup")
	if err := os.CopyFS(backup, os.DirFS(data)); err != nil {
		t.Fatal(err)
	}
	if err := m.Start(limited(t), township); err != nil {
		t.Fatal(err)
	}
	docs = append(docs, m.report(10)...)
	m.wait("sites agree again", m.agreed)
	if err := m.Crash(township); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.RemoveAll(data), os.CopyFS(data, os.DirFS(backup))); err != nil {
		t.Fatal(err)
	}
	if err := m.Start(limited(t), township); err != nil {
		t.Fatal(err)
	}
	st := m.Node(township).Group().Store()
	m.wait("the rollback is noticed", func() bool { return st.Incarnation() == 2 })
	docs = append(docs, m.report(10)...)
	m.wait("sites agree after the rollback", m.agreed)
	m.holds(docs)
	stream := tiers.StreamID{Site: township, Class: tiers.ClassRoutine}
	for _, n := range m.Nodes() {
		v := n.Group().Store().Vector(stream)
		if v[crdt.Author{Site: township, Incarnation: 1}].Seq != 20 || v[crdt.Author{Site: township, Incarnation: 2}].Seq != 10 {
			t.Errorf("%s: %v", n.ID().Site, v)
		}
	}
}

// TestEqualIsNow: a link whose ends were proven equal is not called equal from
// the moment on at which one of them writes.
func TestEqualIsNow(t *testing.T) {
	m := newMesh(t)
	m.report(1)
	m.wait("sites agree", m.agreed)
	m.Cut(township, district)
	m.report(1)
	if m.link(township, district).Equal {
		t.Error("equal, with a record that the peer cannot have")
	}
}

// TestConflictIsShown: two sites that edit a field while they cannot see each
// other leave both values in view, with who wrote them, until one resolves it.
func TestConflictIsShown(t *testing.T) {
	m := newMesh(t)
	stream := tiers.StreamID{Site: district, Class: tiers.ClassCatalog}
	put := func(site tiers.SiteID, value string) {
		t.Helper()
		_, err := m.Node(site).Edit(limited(t), "", stream, "track:x", []crdt.Op{{Kind: crdt.OpPut, Key: "target", Value: value}})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Node(district).Publish(limited(t), "x", []node.Entry{{Doc: "track:x", Ops: []crdt.Op{{Kind: crdt.OpPut, Key: "code", Value: "x"}}}}); err != nil {
		t.Fatal(err)
	}
	m.wait("sites agree", m.agreed)
	m.Cut(city, district)
	put(city, "a")
	put(district, "b")
	put(district, "b") // changes nothing
	m.Heal()
	m.wait("sites agree after the heal", m.agreed)
	conflicts := func(site tiers.SiteID) []crdt.Conflict {
		v, err := m.Node(site).Views().View(store.DocKey{Stream: stream, Doc: "track:x"})
		if err != nil {
			t.Fatal(err)
		}
		var view crdt.FieldView
		if err := json.Unmarshal(v.JSON, &view); err != nil {
			t.Fatal(err)
		}
		return view.Conflicts
	}
	for _, site := range []tiers.SiteID{city, district, township} {
		c := conflicts(site)
		if len(c) != 1 || len(c[0].Values) != 2 || c[0].Values[0].Site == c[0].Values[1].Site || c[0].Values[0].AtMS == 0 {
			t.Errorf("%s shows %+v", site, c)
		}
	}
	put(city, "c")
	m.wait("sites agree after the resolution", m.agreed)
	for _, site := range []tiers.SiteID{city, district, township} {
		if c := conflicts(site); len(c) != 0 {
			t.Errorf("%s still shows %+v", site, c)
		}
	}
}

func TestWriteRefusals(t *testing.T) {
	m := newMesh(t)
	n := m.Node(township)
	if _, err := n.Report(limited(t), "k", event.Report{Title: "no type", Priority: 3}); !errors.Is(err, event.ErrInvalid) {
		t.Errorf("no type: %v", err)
	}
	ops := []crdt.Op{{Kind: crdt.OpPut, Key: "target", Value: "x"}}
	if _, err := n.Edit(limited(t), "k", tiers.StreamID{Site: district, Class: tiers.ClassCatalog}, "track:x", ops); !errors.Is(err, node.ErrNotWriter) {
		t.Errorf("a township writes to its district's catalog: %v", err)
	}
	if _, err := n.Edit(limited(t), "k", tiers.StreamID{Site: township, Class: tiers.ClassCatalog}, "track:x", ops); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("an entry that is not there: %v", err)
	}
	first := m.report(1)
	m.n--
	if again := m.report(1); again[0] != first[0] {
		t.Errorf("the same key gave %v, then %v", first, again)
	}
}

// TestOpenRefusals: what an operator can get wrong is refused before anything
// is written, with an error that names the thing.
func TestOpenRefusals(t *testing.T) {
	m := newMesh(t)
	base := func() node.Config {
		dir := t.TempDir()
		if err := os.CopyFS(filepath.Join(dir, "credentials"), os.DirFS(filepath.Join(m.dir, string(township), "credentials"))); err != nil {
			t.Fatal(err)
		}
		return node.Config{
			Dir: filepath.Join(dir, "data"), Credentials: filepath.Join(dir, "credentials"),
			Topology: filepath.Join(m.dir, "topology.json"), Listen: "127.0.0.1:0",
		}
	}
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, row := range map[string]struct {
		change func(c *node.Config)
		want   error
		text   string
	}{
		"no directory":       {func(c *node.Config) { c.Dir = "" }, node.ErrConfig, "dir"},
		"no certificate":     {func(c *node.Config) { c.Credentials = t.TempDir() }, identity.ErrCredentials, "node.crt"},
		"broken certificate": {func(c *node.Config) { write(filepath.Join(c.Credentials, "node.crt"), "x") }, identity.ErrCredentials, "node.crt"},
		"no topology":        {func(c *node.Config) { c.Topology += "x" }, node.ErrConfig, "topology"},
		"broken topology":    {func(c *node.Config) { c.Topology = filepath.Join(t.TempDir(), "t"); write(c.Topology, "{}") }, tiers.ErrInvalidTopology, "federation"},
		"site not listed": {func(c *node.Config) {
			c.Topology = filepath.Join(t.TempDir(), "t")
			write(c.Topology, `{"federation":"cq","version":1,"sites":[{"id":"500000","tier":"city","name":"c"}]}`)
		}, node.ErrConfig, "500101001"},
		"other federation": {func(c *node.Config) {
			c.Topology = filepath.Join(t.TempDir(), "t")
			write(c.Topology, `{"federation":"x","version":1,"sites":[{"id":"500101001","tier":"city","name":"c"}]}`)
		}, node.ErrConfig, `"x"`},
		"port in use":         {func(c *node.Config) { c.Listen = m.Node(township).Addr().String() }, transport.ErrBusyPort, "127.0.0.1"},
		"another site's data": {func(c *node.Config) { c.Dir = adopt(t, m, c.Dir, district) }, store.ErrForeign, "500101"},
		"data held":           {func(c *node.Config) { c.Dir = filepath.Join(m.dir, string(township), "data") }, store.ErrLocked, "data"},
	} {
		t.Run(name, func(t *testing.T) {
			c := base()
			row.change(&c)
			n, err := node.Open(c, node.Options{})
			if n != nil {
				_ = n.Close()
			}
			if !errors.Is(err, row.want) || !strings.Contains(err.Error(), row.text) {
				t.Errorf("%v, want %v with %q", err, row.want, row.text)
			}
			if entries, err := os.ReadDir(c.Dir); name != "another site's data" && name != "data held" && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("it left %v behind, %v", entries, err)
			}
		})
	}
}

// adopt copies a site's data directory, as somebody who mixes disks up would.
func adopt(t *testing.T, m *mesh, dir string, site tiers.SiteID) string {
	t.Helper()
	from := filepath.Join(m.dir, string(site), "data")
	if err := m.Crash(site); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	if err := m.Start(limited(t), site); err != nil {
		t.Fatal(err)
	}
	return dir
}
