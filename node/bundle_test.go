package node_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/node"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/federation"
)

// export returns a bundle of one site for another; asked says that the other one
// wrote a request.
func (m *mesh) export(from, to tiers.SiteID, asked, full bool) []byte {
	m.t.Helper()
	q := api.ExportQuery{For: to, Full: full}
	if asked {
		var b bytes.Buffer
		if err := m.Node(to).Backend().RequestBundle(limited(m.t), from, &b); err != nil {
			m.t.Fatal(err)
		}
		q = api.ExportQuery{Have: b.Bytes()}
	}
	var b bytes.Buffer
	if err := m.Node(from).Backend().ExportBundle(limited(m.t), q, &b); err != nil {
		m.t.Fatal(err)
	}
	return b.Bytes()
}

// carry takes a bundle in and returns what became of it.
func (m *mesh) carry(to tiers.SiteID, bundle []byte) api.ImportReport {
	m.t.Helper()
	r, err := m.Node(to).Backend().ImportBundle(limited(m.t), bytes.NewReader(bundle))
	if err != nil {
		m.t.Fatal(err)
	}
	return r
}

// TestBundleCarries: with every link cut, bundles carry a township's records to
// its district, and on to the city; a link has nothing to add afterwards.
func TestBundleCarries(t *testing.T) {
	m := newMesh(t)
	m.wait("sites agree", m.agreed)
	m.Isolate(township)
	m.Isolate(city)
	// A new process has no session that could send again what was under way.
	if err := errors.Join(m.Crash(township), m.Start(limited(t), township)); err != nil {
		t.Fatal(err)
	}
	docs := m.report(300)
	m.publishRules() // at the city, for everybody
	up := m.export(township, district, true, false)
	if r := m.carry(district, up); r.New != 300 || r.Held != 0 || len(r.Gaps)+len(r.Refused) != 0 {
		t.Errorf("at the district: %+v", r)
	}
	if r := m.carry(district, up); r.New != 0 || r.Held != 300 {
		t.Errorf("again: %+v", r)
	}
	down := m.export(city, district, true, false)
	if r := m.carry(district, down); r.New == 0 {
		t.Errorf("the rules: %+v", r)
	}
	// The district passes on what others wrote, both ways.
	m.carry(city, m.export(district, city, true, false))
	m.holds(docs)
	if r := m.carry(township, m.export(district, township, true, false)); r.New == 0 {
		t.Errorf("the rules, passed on: %+v", r)
	}
	before, taken := m.Node(district).Group().Store().Counts().Records, m.link(district, township).Totals.ReceivedRecords
	m.Heal()
	m.wait("sites agree by link", m.agreed)
	m.holds(docs)
	taken = m.link(district, township).Totals.ReceivedRecords - taken
	if now := m.Node(district).Group().Store().Counts().Records; taken > now-before {
		t.Errorf("the link brought %d records after the bundle, of which %d were new", taken, now-before)
	}
}

// TestBundleBesideLink: bundles that are taken in while a link brings the same
// records change nothing of the outcome.
func TestBundleBesideLink(t *testing.T) {
	m := newMesh(t)
	m.wait("sites agree", m.agreed)
	done, docs := make(chan struct{}), []store.DocKey(nil)
	go func() { // ends when it has reported
		defer close(done)
		docs = m.report(300)
	}()
	for reporting := true; reporting; {
		if r := m.carry(district, m.export(township, district, false, true)); len(r.Gaps)+len(r.Refused) > 0 {
			t.Fatalf("%+v", r)
		}
		select {
		case <-done:
			reporting = false
		default:
		}
	}
	m.wait("sites agree by link and bundle", m.agreed)
	m.holds(docs)
}

// TestBundleFromLastSession: without a request, a bundle holds what the last
// session did not see at the peer; with Full, everything.
func TestBundleFromLastSession(t *testing.T) {
	m := newMesh(t)
	m.report(20)
	m.wait("sites agree", m.agreed)
	m.Cut(township, district)
	m.report(5)
	records := func(b []byte) uint64 {
		r, err := federation.ReadBundle(bytes.NewReader(b))
		if err != nil {
			t.Fatal(err)
		}
		n, _ := r.Manifest().Totals()
		if err := r.Check(m.Topology()); err != nil {
			t.Error(err)
		}
		return n
	}
	// Dispatch may add tasks of the township's own; there are no rules here.
	if n := records(m.export(township, district, false, false)); n != 5 {
		t.Errorf("%d records, want the 5 that were written since", n)
	}
	if n := records(m.export(township, district, false, true)); n < 25 {
		t.Errorf("%d records, want everything", n)
	}
}

// TestBundleRollback: a bundle, too, tells a site that it was rolled back, and
// gives it its records back.
func TestBundleRollback(t *testing.T) {
	m := newMesh(t)
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
	docs := m.report(10)
	m.wait("sites agree", m.agreed)
	if err := m.Crash(township); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.RemoveAll(data), os.CopyFS(data, os.DirFS(backup))); err != nil {
		t.Fatal(err)
	}
	m.Isolate(township)
	if err := m.Start(limited(t), township); err != nil {
		t.Fatal(err)
	}
	if r := m.carry(township, m.export(district, township, true, false)); r.New < 10 {
		t.Errorf("%+v", r)
	}
	if n := m.Node(township).Group().Store().Incarnation(); n != 2 {
		t.Errorf("incarnation %d after the rollback", n)
	}
	m.holds(docs)
	docs = append(docs, m.report(5)...)
	m.Heal()
	m.wait("sites agree after the rollback", m.agreed)
	m.holds(docs)
}

// TestBundleRefused: what is not a bundle for this site changes nothing.
func TestBundleRefused(t *testing.T) {
	m := newMesh(t)
	m.report(3)
	m.wait("sites agree", m.agreed)
	bundle := m.export(township, district, false, true)
	before := m.Node(city).Group().Digest()
	for name, b := range map[string][]byte{
		"another site's": bundle, "nothing": nil, "no bundle": []byte("tiermesh is a mesh"), "a request": []byte("tiermesh request 1\n"),
	} {
		if _, err := m.Node(city).Backend().ImportBundle(limited(t), bytes.NewReader(b)); !errors.Is(err, api.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if m.Node(city).Group().Digest() != before {
		t.Error("something got in")
	}
	for name, row := range map[string]struct {
		q    api.ExportQuery
		want error
	}{
		"an unknown site": {api.ExportQuery{For: "1"}, api.ErrNotFound}, "itself": {api.ExportQuery{For: city}, api.ErrInvalid},
		"a torn request": {api.ExportQuery{Have: []byte("tiermesh request 1\n")}, api.ErrInvalid},
	} {
		if err := m.Node(city).Backend().ExportBundle(limited(t), row.q, io.Discard); !errors.Is(err, row.want) {
			t.Errorf("%s: %v, want %v", name, err, row.want)
		}
	}
}

// TestProve: two sites that hold the same get a certificate that holds; while
// one writes, an answer is never a certificate of something else.
func TestProve(t *testing.T) {
	m := newMesh(t)
	m.report(10)
	m.wait("sites agree", m.agreed)
	check := func(r api.ProveResult) *federation.Certificate {
		t.Helper()
		c, err := federation.ParseCertificate(r.Certificate)
		if err == nil {
			err = c.Verify(m.Topology())
		}
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	stream := tiers.StreamID{Site: township, Class: tiers.ClassRoutine}
	author := crdt.Author{Site: township, Incarnation: 1}
	for _, ends := range [][2]tiers.SiteID{{township, district}, {district, township}, {city, district}} {
		r, err := m.prove(ends[0], ends[1])
		if err != nil || !r.Equal {
			t.Fatalf("%v: %+v, %v", ends, r, err)
		}
		if c := check(r); c.Asker != ends[0] || c.Peer != ends[1] || c.Vectors[stream][author].Seq != 10 {
			t.Errorf("%v: %+v", ends, c)
		}
	}
	done := make(chan struct{})
	go func() { // ends when it has reported
		defer close(done)
		m.report(100)
	}()
	for range 10 {
		r, err := m.prove(district, township)
		if err != nil {
			t.Fatal(err)
		}
		if r.Equal {
			check(r)
		} else if len(r.Differences) == 0 && r.Reason == "" {
			t.Errorf("unequal without a difference: %+v", r)
		}
	}
	<-done
	if _, err := m.Node(city).Backend().Prove(limited(t), township); !errors.Is(err, api.ErrUnavailable) {
		t.Errorf("a site without a link: %v", err)
	}
	if _, err := m.Node(city).Backend().Prove(limited(t), "1"); !errors.Is(err, api.ErrNotFound) {
		t.Errorf("an unknown site: %v", err)
	}
}

// TestProofFlood: a peer that asks without end is answered so often and no more,
// and again after a pause.
func TestProofFlood(t *testing.T) {
	var a node.Allowance
	now := time.Unix(1000, 0)
	granted := func(n int) (out int) {
		for range n {
			if a.Take(now) {
				out++
			}
		}
		return out
	}
	if n := granted(1000); n != 40 {
		t.Errorf("%d of 1,000 at once", n)
	}
	now = now.Add(time.Second)
	if n := granted(1000); n != 10 {
		t.Errorf("%d a second later", n)
	}
	now = now.Add(time.Hour)
	if n := granted(1000); n != 40 {
		t.Errorf("%d after an hour", n)
	}
}

// TestSyncStatus: what the peer lacks is told exactly, also while the link is
// down, and what a reconnection would move with it.
func TestSyncStatus(t *testing.T) {
	m := newMesh(t)
	m.report(10)
	m.wait("sites agree", m.agreed)
	status := func(peer tiers.SiteID) api.LinkSync {
		t.Helper()
		s, err := m.Node(township).Backend().SyncStatus(limited(t), api.SyncQuery{Peer: peer, Streams: true})
		if err != nil || len(s.Links) != 1 {
			t.Fatalf("%+v, %v", s, err)
		}
		return s.Links[0]
	}
	if l := status(district); !l.Equal || l.State != "connected" || l.Basis != api.BasisLive || l.Out.Records+l.In.Records != 0 || l.ProvenEqualAt == nil || l.Streams[0].State != "equal" {
		t.Errorf("agreed: %+v", l)
	}
	m.Cut(township, district)
	began := time.Now()
	m.report(7)
	chain := crdt.ChainID{Stream: tiers.StreamID{Site: township, Class: tiers.ClassRoutine}, Author: crdt.Author{Site: township, Incarnation: 1}}
	run, err := m.Node(township).Group().Store().ReadRun(chain, 11, 17, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	bytes := uint64(len(strings.Join(texts(run.Records), "")))
	l := status(district)
	if l.Equal || l.Out.Records != 7 || l.Out.Bytes != bytes || l.Out.BytesEstimated || l.In.Records != 0 || l.Out.Oldest.Before(began.Add(-time.Second)) {
		t.Errorf("cut, %d bytes owed: %+v %+v", bytes, l, l.Out)
	}
	f, err := m.Node(township).Backend().Forecast(limited(t), api.ForecastQuery{Peer: district, RateBPS: 1000})
	if err != nil {
		t.Fatal(err)
	}
	want := float64(bytes)/1000 + f.RTTMS/1000
	if lane := f.Lanes[3]; lane.Out.Records != 7 || lane.Out.DoneS == nil || *lane.Out.DoneS != want || *f.Lanes[5].Out.DoneS != want || *f.Lanes[2].Out.DoneS >= want {
		t.Errorf("forecast: %+v", f)
	}
	// After a restart nothing is known of the peer until it is heard.
	if err := m.Crash(township); err != nil {
		t.Fatal(err)
	}
	if err := m.Start(limited(t), township); err != nil {
		t.Fatal(err)
	}
	if l := status(district); l.Basis != api.BasisNothing || l.Out != nil || l.Streams[0].State != "unknown" {
		t.Errorf("after a restart: %+v", l)
	}
	if _, err := m.Node(township).Backend().Forecast(limited(t), api.ForecastQuery{Peer: district}); !errors.Is(err, api.ErrUnavailable) {
		t.Errorf("forecast from nothing: %v", err)
	}
}

func texts(records [][]byte) []string {
	out := make([]string, len(records))
	for i, r := range records {
		out[i] = string(r)
	}
	return out
}

// TestRateMeter: the last rate is that of the last transfer that was long enough
// to tell what the link can do; the present one fades.
func TestRateMeter(t *testing.T) {
	var meter node.Meter
	at, sent := time.Unix(1000, 0), uint64(0)
	tick := func(n int, bytes, wait uint64) (r node.Rates) {
		for range n {
			at, sent = at.Add(100*time.Millisecond), sent+bytes
			r = meter.Tick(at, sent, wait)
		}
		return r
	}
	near := func(got, want float64) bool { return got > 0.99*want && got < 1.01*want }
	if r := tick(10, 0, 0); r != (node.Rates{}) {
		t.Errorf("idle: %+v", r)
	}
	if r := tick(3, 1000, 100); r.OutLast != 0 || r.OutNow == 0 {
		t.Errorf("too little to measure: %+v", r)
	}
	tick(20, 0, 0)
	if r := tick(50, 10_000, 100); !near(r.OutLast, 100_000) || r.OutNow < 50_000 || r.InLast != 0 {
		t.Errorf("100 kB/s: %+v", r)
	}
	if r := tick(30, 0, 0); !near(r.OutLast, 100_000) || r.OutNow != 0 {
		t.Errorf("afterwards: %+v", r)
	}
	if r := tick(1000, 1000, 2); !near(r.OutLast, 100_000) {
		t.Errorf("a trickle of what comes in: %+v", r)
	}
	if r := tick(50, 20_000, 2); r.OutLast <= 101_000 {
		t.Errorf("as much as comes in, and more than before: %+v", r)
	}
	if r := tick(50, 5_000, 1000); !near(r.OutLast, 50_000) {
		t.Errorf("a slower link: %+v", r)
	}
}
