package oracle_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/engine"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/replication/view"
	"github.com/tiermesh/tiermesh/testbed/oracle"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/command"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
	"github.com/tiermesh/tiermesh/tiers/event"
	"github.com/tiermesh/tiermesh/tiers/responder"
	"github.com/tiermesh/tiermesh/tiers/track"
)

const (
	city  = tiers.SiteID("500000")
	north = tiers.SiteID("500101")
	south = tiers.SiteID("500102")
	town  = tiers.SiteID("500101001") // under north
	other = tiers.SiteID("500101002") // under north, too
)

// federation is a small federation without links: real stores and views, between
// which a test ships records as it likes.
type federation struct {
	t        *testing.T
	topology *tiers.Topology
	sites    map[tiers.SiteID]*site
	clock    crdt.HybridTime
	acked    []oracle.Acked
}

type site struct {
	*store.Store
	view  *view.Materialiser
	index uint64 // of Raft
}

func newFederation(t *testing.T) *federation {
	t.Helper()
	topology, err := tiers.NewTopology(tiers.TopologyDoc{Federation: "cq", Version: 1, Sites: []tiers.Site{
		{ID: city, Tier: tiers.TierCity}, {ID: north, Tier: tiers.TierDistrict, Parent: city}, {ID: south, Tier: tiers.TierDistrict, Parent: city},
		{ID: town, Tier: tiers.TierTownship, Parent: north}, {ID: other, Tier: tiers.TierTownship, Parent: north},
	}})
	if err != nil {
		t.Fatal(err)
	}
	f := &federation{t: t, topology: topology, sites: map[tiers.SiteID]*site{}}
	folds := map[string]view.Fold{
		"event": event.Fold, "task": dispatch.FoldTask, "track": track.Fold, responder.KindRequest: responder.FoldRequest, responder.KindPool: responder.FoldPool,
		command.KindOrder: command.FoldOrder, command.KindReceipt: command.FoldReceipt,
	}
	for _, row := range topology.Sites() {
		s, err := store.Open(store.Config{Dir: t.TempDir(), Federation: "cq", Site: row.ID})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		f.sites[row.ID] = &site{Store: s, view: view.New(view.Config{Store: s, Site: row.ID, Engine: engine.New(), Folds: folds})}
	}
	return f
}

// all returns the sites as oracles read them, in order.
func (f *federation) all() (out []oracle.Site) {
	for _, row := range f.topology.Sites() {
		s := f.sites[row.ID]
		out = append(out, oracle.Site{ID: row.ID, Store: s.Store, View: s.view.View})
	}
	return out
}

// tx commits what f does at a site.
func (f *federation) tx(id tiers.SiteID, do func(*store.Tx) error) {
	f.t.Helper()
	s := f.sites[id]
	tx := s.Begin()
	s.index++
	if err := errors.Join(do(tx), tx.Commit(s.index)); err != nil {
		f.t.Fatal(err)
	}
}

// write makes a change at a site and notes that it was acknowledged.
func (f *federation) write(author crdt.Author, stream tiers.StreamID, doc tiers.DocID, ops ...crdt.Op) oracle.Acked {
	f.t.Helper()
	h, err := f.sites[author.Site].Changes(store.DocKey{Stream: stream, Doc: doc})
	if errors.Is(err, store.ErrNotFound) {
		h, err = &store.Changes{}, nil
	}
	if err != nil {
		f.t.Fatal(err)
	}
	f.clock += 1 << 16
	b, err := engine.New().Build(h.Raw, crdt.NewActor(author, [8]byte{1}), int64(f.clock>>16), ops)
	if err != nil {
		f.t.Fatal(err)
	}
	a := oracle.Acked{Site: author.Site, Stream: stream, Doc: doc}
	f.tx(author.Site, func(tx *store.Tx) error {
		placed, err := tx.Append(author, []store.Item{{Stream: stream, Doc: doc, Base: h.Heads, Time: f.clock, Change: b.Raw}})
		if err == nil {
			a.Seq = placed[0].Seq
		}
		return err
	})
	f.acked = append(f.acked, a)
	return a
}

// ship takes what one site holds of a stream, and another one lacks, to that.
func (f *federation) ship(from, to tiers.SiteID, stream tiers.StreamID) {
	f.t.Helper()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	have := f.sites[to].Vector(stream)
	for author, head := range f.sites[from].Vector(stream) {
		if head.Seq <= have[author].Seq {
			continue
		}
		chain := crdt.ChainID{Stream: stream, Author: author}
		run, err := f.sites[from].ReadRun(chain, have[author].Seq+1, head.Seq, math.MaxInt)
		if err != nil {
			f.t.Fatal(err)
		}
		cp, err := crdt.SignCheckpoint(crdt.Ed25519Signer(key), chain, head, 1)
		if err != nil {
			f.t.Fatal(err)
		}
		f.tx(to, func(tx *store.Tx) error {
			_, err := tx.Ingest(store.Range{Chain: chain, First: run.First, Records: run.Records, Checkpoint: cp})
			return err
		})
	}
}

// converge ships everything to everybody who is to have it.
func (f *federation) converge() {
	f.t.Helper()
	for _, from := range f.topology.Sites() {
		for _, stream := range f.sites[from.ID].Streams() {
			for _, to := range f.topology.Audience(stream) {
				f.ship(from.ID, to, stream)
			}
		}
	}
}

func self(id tiers.SiteID) crdt.Author { return crdt.Author{Site: id, Incarnation: 1} }

func in(id tiers.SiteID, c tiers.Class) tiers.StreamID { return tiers.StreamID{Site: id, Class: c} }

// report makes an event at a site.
func (f *federation) report(id tiers.SiteID, name, title string) oracle.Acked {
	f.t.Helper()
	ops, err := event.CreateOps(event.Report{Type: "x", Title: title, Priority: 3})
	if err != nil {
		f.t.Fatal(err)
	}
	return f.write(self(id), in(id, tiers.ClassRoutine), tiers.NewDocID("event", name), ops...)
}

// task makes a task of a township at a site.
func (f *federation) task(id tiers.SiteID) store.DocKey {
	f.t.Helper()
	ops, err := dispatch.TaskOps(dispatch.Brief{Event: "event:1", Title: "x", Organ: "o"})
	if err != nil {
		f.t.Fatal(err)
	}
	a := f.write(self(id), in(town, tiers.ClassCommand), "task:1", ops...)
	return store.DocKey{Stream: a.Stream, Doc: a.Doc}
}

// sign signs for the task at a site, in a site's name.
func (f *federation) sign(at, name tiers.SiteID) {
	f.t.Helper()
	f.act(at, dispatch.Action{By: name, Kind: dispatch.ActionSign})
}

// act makes an action on the task at a site.
func (f *federation) act(at tiers.SiteID, a dispatch.Action) {
	f.t.Helper()
	row, _ := f.topology.Site(a.By)
	a.At, a.Tier = f.clock+1<<16, row.Tier
	op, err := dispatch.ActionOp(a)
	if err != nil {
		f.t.Fatal(err)
	}
	f.write(self(at), in(town, tiers.ClassCommand), "task:1", op)
}

// lying is a store that says something else.
type lying struct {
	oracle.Store
	vector func(tiers.StreamID) crdt.Vector
	run    func(c crdt.ChainID, first, last uint64, bytesMax int) (store.Run, error)
	claim  func(resource string) (store.Claim, error)
	// applied is the index that it says, 0 for its own.
	applied uint64
}

func (l lying) AppliedIndex() uint64 {
	if l.applied != 0 {
		return l.applied
	}
	return l.Store.AppliedIndex()
}

func (l lying) Vector(s tiers.StreamID) crdt.Vector {
	if l.vector != nil {
		return l.vector(s)
	}
	return l.Store.Vector(s)
}

func (l lying) ReadRun(c crdt.ChainID, first, last uint64, bytesMax int) (store.Run, error) {
	if l.run != nil {
		return l.run(c, first, last, bytesMax)
	}
	return l.Store.ReadRun(c, first, last, bytesMax)
}

func (l lying) Claim(resource string) (store.Claim, error) {
	if l.claim != nil {
		return l.claim(resource)
	}
	return l.Store.Claim(resource)
}

// with replaces a site.
func with(all []oracle.Site, id tiers.SiteID, change func(*oracle.Site)) []oracle.Site {
	out := slices.Clone(all)
	i := slices.IndexFunc(out, func(s oracle.Site) bool { return s.ID == id })
	change(&out[i])
	return out
}

// holds fails unless a verdict looked at something and found nothing.
func holds(t *testing.T, what string, v oracle.Verdict) {
	t.Helper()
	if !v.Holds() || v.Checked == 0 {
		t.Errorf("%s: %+v", what, v)
	}
}

// caught fails unless a verdict found exactly n violations.
func caught(t *testing.T, what string, n uint64, v oracle.Verdict) {
	t.Helper()
	if v.Violations != n || v.Holds() || len(v.Examples) == 0 {
		t.Errorf("%s: %+v, want %d violations", what, v, n)
	}
}
