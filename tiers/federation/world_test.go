package federation_test

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/federation"
	"github.com/tiermesh/tiermesh/transport/wire"
)

// world runs sessions between naive sites: a store is a slice of records per
// chain, a link is a queue per direction, and time passes by ticks.
type world struct {
	topology *tiers.Topology
	// newer are the topologies of the sites that know a newer one.
	newer    map[tiers.SiteID]*tiers.Topology
	keys     map[tiers.SiteID]ed25519.PrivateKey
	sites    map[tiers.SiteID]*naiveSite
	links    map[[2]tiers.SiteID]*link
	trace    func(format string, args ...any)
	cfg      federation.Config
	closed   []string              // why sessions ended by themselves
	sent     int                   // records in batches, on all links
	old      map[tiers.SiteID]bool // sites of an older build
	restarts bool                  // a site that was rolled back starts a new incarnation
}

// naiveSite holds every record it has, by chain, in order.
type naiveSite struct {
	id          tiers.SiteID
	incarnation uint32
	records     map[crdt.ChainID][][]byte
	// ends are the sequence numbers at which the site holds a checkpoint.
	ends map[crdt.ChainID][]uint64
	// evidence are the records that were set aside in a dispute.
	evidence map[crdt.ChainID][][]byte
}

// link is a live link: the session at each end and what is on its way there.
type link struct {
	ends   [2]tiers.SiteID
	s      [2]*federation.Session
	queue  [2][tiers.LaneCount][]wire.Message // towards ends[i]
	ingest [2][]federation.Range
	slow   bool // ingests wait for "stored"
	batchB int  // bytes of records sent
	// refused counts what each end did not take.
	refused [2]map[wire.Code]int
}

func newWorld(rows string) (*world, error) {
	w := &world{
		keys: map[tiers.SiteID]ed25519.PrivateKey{}, sites: map[tiers.SiteID]*naiveSite{},
		links: map[[2]tiers.SiteID]*link{}, trace: func(string, ...any) {}, newer: map[tiers.SiteID]*tiers.Topology{},
	}
	var err error
	w.topology, err = tiers.NewTopology(w.parse(rows, 1))
	return w, err
}

// parse reads rows of "code", "code parent" or "code x parent".
func (w *world) parse(rows string, version uint64) tiers.TopologyDoc {
	doc := tiers.TopologyDoc{Federation: "cq", Version: version}
	for line := range strings.Lines(rows) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		s := tiers.Site{ID: tiers.SiteID(f[0]), Tier: tiers.Tier(len(f))}
		if len(f) > 1 {
			s.Parent = tiers.SiteID(f[len(f)-1])
		}
		if w.keys[s.ID] == nil {
			w.keys[s.ID] = ed25519.NewKeyFromSeed(bytes.Repeat([]byte{byte(len(w.keys) + 1)}, ed25519.SeedSize))
			w.sites[s.ID] = &naiveSite{
				id: s.ID, incarnation: 1, records: map[crdt.ChainID][][]byte{}, ends: map[crdt.ChainID][]uint64{}, evidence: map[crdt.ChainID][][]byte{},
			}
		}
		s.Key = w.keys[s.ID].Public().(ed25519.PublicKey)
		s.Nodes = []tiers.NodeAddr{{Node: 1, Addr: string(s.ID) + ":1"}}
		doc.Sites = append(doc.Sites, s)
	}
	return doc
}

// of returns the topology that a site knows.
func (w *world) of(site tiers.SiteID) *tiers.Topology {
	if t := w.newer[site]; t != nil {
		return t
	}
	return w.topology
}

func (s *naiveSite) head(c crdt.ChainID) crdt.Head {
	h := c.Origin()
	for _, r := range s.records[c] {
		h = h.Next(r)
	}
	return h
}

func (s *naiveSite) vectors() map[tiers.StreamID]crdt.Vector {
	out := map[tiers.StreamID]crdt.Vector{}
	for c := range s.records {
		if out[c.Stream] == nil {
			out[c.Stream] = crdt.Vector{}
		}
		out[c.Stream][c.Author] = s.head(c)
	}
	return out
}

// write appends one record of a site to a stream and tells its sessions.
func (w *world) write(site tiers.SiteID, stream tiers.StreamID, body string) {
	w.writeKind(crdt.RecordChange, site, stream, body)
}

func (w *world) writeKind(kind crdt.RecordKind, site tiers.SiteID, stream tiers.StreamID, body string) {
	s := w.sites[site]
	c := crdt.ChainID{Stream: stream, Author: crdt.Author{Site: site, Incarnation: s.incarnation}}
	rec := crdt.Record{Kind: kind, Time: crdt.HybridTime(len(s.records[c])+1) << 16, Doc: "event:e", Body: []byte(body)}
	s.records[c] = append(s.records[c], rec.AppendTo(nil))
	w.grew(site, c)
}

func (w *world) grew(site tiers.SiteID, c crdt.ChainID) {
	head := w.sites[site].head(c)
	for _, l := range w.sortedLinks() {
		for i, end := range l.ends {
			if end == site {
				l.s[i].Local(c, head)
			}
		}
	}
}

func (w *world) sortedLinks() []*link {
	var out []*link
	for _, k := range slices.SortedFunc(maps.Keys(w.links), func(a, b [2]tiers.SiteID) int { return slices.Compare(a[:], b[:]) }) {
		out = append(out, w.links[k])
	}
	return out
}

// connect starts a session between two sites; both ends say hello.
func (w *world) connect(a, b tiers.SiteID) *link {
	l := &link{ends: [2]tiers.SiteID{a, b}, refused: [2]map[wire.Code]int{{}, {}}}
	for i, self := range l.ends {
		cfg := w.cfg
		cfg.Topology, cfg.Self, cfg.Peer, cfg.Node, cfg.Incarnation = w.of(self), self, l.ends[1-i], 1, w.sites[self].incarnation
		if w.old[self] {
			cfg.Without |= federation.FeatureOneWay
		}
		l.s[i] = federation.New(cfg, w.sites[self].vectors())
	}
	w.links[l.ends] = l
	w.drain(l)
	return l
}

func (w *world) cut(l *link) { delete(w.links, l.ends) }

// drain carries out what both sessions ask for. It returns false when one of
// them closed the link.
func (w *world) drain(l *link) bool {
	for again := true; again; {
		again = false
		for i := range l.s {
			r := l.s[i].Ready()
			site := w.sites[l.ends[i]]
			for _, code := range r.Refusals {
				l.refused[i][code]++
			}
			for _, a := range r.Alarms {
				w.trace("%s alarm: %s", site.id, a)
			}
			for _, m := range r.Send {
				w.trace("%s > %s lane %d: %s", site.id, l.ends[1-i], m.Lane, describe(m.Message))
				if b, ok := m.Message.(*wire.Batch); ok {
					l.batchB += len(bytes.Join(b.Records, nil))
					w.sent += len(b.Records)
				}
				l.queue[1-i][m.Lane] = append(l.queue[1-i][m.Lane], m.Message)
			}
			for _, load := range r.Loads {
				w.load(l.s[i], site, load)
				again = true
			}
			l.ingest[i] = append(l.ingest[i], r.Ingests...)
			if !l.slow {
				again = w.store(l, i) || again
			}
			for _, d := range r.Disputes {
				again = true
				if !w.settleDispute(l, i, d) {
					return false
				}
			}
			if r.RolledBack != nil {
				w.trace("%s rolled back: %s holds %s up to %d", site.id, l.ends[1-i], r.RolledBack.Chain, r.RolledBack.Head.Seq)
				if w.restarts && site.incarnation == r.RolledBack.Chain.Author.Incarnation {
					site.incarnation++
				}
			}
			if r.Close != nil {
				w.trace("%s closes: %s: %s", site.id, r.Close.Code, r.Close.Reason)
				if to := r.Close.Redirect; to != nil {
					w.trace("%s > %s: go to %s at %v", site.id, l.ends[1-i], to.Parent, to.Addrs)
				}
				w.closed = append(w.closed, string(site.id)+": "+r.Close.Reason)
				w.cut(l)
				return false
			}
		}
	}
	return true
}

// settleDispute compares the peer's side of a dispute with what the site holds
// and sets aside what departs from it, as the driver does. It returns false when
// the link was cut for it.
func (w *world) settleDispute(l *link, i int, d federation.Dispute) bool {
	site, c := w.sites[l.ends[i]], d.Chain
	hashes := []crdt.Hash{c.Origin().Hash}
	for h, at := c.Origin(), 0; at < len(site.records[c]); at++ {
		h = h.Next(site.records[c][at])
		hashes = append(hashes, h.Hash)
	}
	if d.First > uint64(len(hashes)) || hashes[d.First-1] != d.Prev {
		w.trace("%s holds other records of %s before %d", site.id, c, d.First)
		l.s[i].Ask(c, d.First/2)
		return true
	}
	at := crdt.Head{Seq: d.First - 1, Hash: d.Prev}
	for _, r := range d.Records {
		next := at.Next(r)
		if next.Seq < uint64(len(hashes)) && hashes[next.Seq] != next.Hash {
			break
		}
		at = next
	}
	if at.Seq == d.Last { // another link decided meanwhile
		w.cut(l)
		return false
	}
	if at.Seq == d.Checkpoint.Head.Seq {
		l.s[i].Ask(c, at.Seq+1)
		return true
	}
	site.evidence[c] = append(site.evidence[c], site.records[c][at.Seq:]...)
	w.trace("%s sets aside %d records of %s from %d on", site.id, uint64(len(site.records[c]))-at.Seq, c, at.Seq+1)
	if site.records[c] = slices.Clone(site.records[c][:at.Seq]); at.Seq == 0 {
		delete(site.records, c)
	}
	site.ends[c] = slices.DeleteFunc(site.ends[c], func(e uint64) bool { return e > at.Seq })
	if c.Author == (crdt.Author{Site: site.id, Incarnation: site.incarnation}) {
		site.incarnation++
		w.trace("%s starts incarnation %d", site.id, site.incarnation)
	}
	for _, other := range w.sortedLinks() {
		if other.ends[0] == site.id || other.ends[1] == site.id {
			w.cut(other)
		}
	}
	return false
}

// load answers a Load as the driver does: up to the byte limit, ending where
// the site holds or can make a checkpoint.
func (w *world) load(s *federation.Session, site *naiveSite, load federation.Load) {
	all := site.records[load.Chain]
	first, size := load.First, 0
	last := first - 1
	head := load.Chain.Origin()
	for i := range int(first) - 1 {
		head = head.Next(all[i])
	}
	prev := head.Hash
	own := load.Chain.Author.Site == site.id // whichever incarnation: it has the key
	best, bestHead := uint64(0), crdt.Head{}
	for last < load.Last && (size < load.Bytes || best == 0) {
		last++
		size += len(all[last-1])
		head = head.Next(all[last-1])
		if own || slices.Contains(site.ends[load.Chain], last) {
			best, bestHead = last, head
		}
	}
	if best == 0 {
		s.NotLoaded(load.Chain)
		return
	}
	s.Loaded(load.Chain, prev, first, all[first-1:best], w.checkpoint(load.Chain, bestHead))
}

// checkpoint signs as the author, whose signature a relay would have kept.
func (w *world) checkpoint(c crdt.ChainID, head crdt.Head) crdt.Checkpoint {
	cp, err := crdt.SignCheckpoint(crdt.Ed25519Signer(w.keys[c.Author.Site]), c, head, 1)
	if err != nil {
		panic(err)
	}
	return cp
}

// store makes what end i received durable, as its Raft group would.
func (w *world) store(l *link, i int) bool {
	work := l.ingest[i]
	l.ingest[i] = nil
	site := w.sites[l.ends[i]]
	for _, r := range work {
		have := uint64(len(site.records[r.Chain]))
		switch end := r.First + uint64(len(r.Records)) - 1; {
		case r.First > have+1:
			l.s[i].Ingested(r, fmt.Errorf("gap: %d after %d", r.First, have))
			continue
		case !overlaps(site.records[r.Chain], r):
			l.s[i].Contradicted(r)
			continue
		case end > have:
			site.records[r.Chain] = append(site.records[r.Chain], r.Records[have+1-r.First:]...)
			site.ends[r.Chain] = append(site.ends[r.Chain], end)
		}
		l.s[i].Ingested(r, nil)
		w.grew(site.id, r.Chain)
	}
	return len(work) > 0
}

// overlaps reports whether a range holds the records that are there already.
func overlaps(have [][]byte, r federation.Range) bool {
	for i, rec := range r.Records {
		if at := int(r.First) - 1 + i; at < len(have) && !bytes.Equal(have[at], rec) {
			return false
		}
	}
	return true
}

// deliver hands the next message over to end i, of the most urgent lane.
func (w *world) deliver(l *link, i int) bool {
	for lane := range l.queue[i] {
		if q := l.queue[i][lane]; len(q) > 0 {
			l.queue[i][lane] = q[1:]
			l.s[i].Step(q[0])
			w.drain(l)
			return true
		}
	}
	return false
}

// run delivers everything on every link until nothing moves.
func (w *world) run() {
	for moved := true; moved; {
		moved = false
		for _, l := range w.sortedLinks() {
			if !w.drain(l) {
				moved = true
				continue
			}
			for i := range l.ends {
				moved = w.deliver(l, i) || moved
			}
		}
	}
}

// tick lets time pass on every link.
func (w *world) tick(n int) {
	for range n {
		for _, l := range w.sortedLinks() {
			for i, s := range l.s {
				quiet, before := s.Quiet(), s.Status()
				s.Tick()
				if !quiet {
					continue
				}
				if r := s.Ready(); !reflect.DeepEqual(r, federation.Ready{}) || !reflect.DeepEqual(before, s.Status()) {
					w.closed = append(w.closed, fmt.Sprintf("%s was quiet, and a tick did %+v: %+v, %+v", l.ends[i], r, before, s.Status()))
				}
			}
			w.drain(l)
		}
		w.run()
	}
}

// describe renders a message for a script's output.
func describe(m wire.Message) string {
	switch m := m.(type) {
	case *wire.Hello:
		return fmt.Sprintf("hello from %s, incarnation %d, %d streams", m.Site, m.Incarnation, len(m.Streams))
	case *wire.Vectors:
		var parts []string
		for _, s := range m.Streams {
			part := fmt.Sprintf("%s/%s {", s.Site, s.Class)
			for i, h := range s.Heads {
				if i > 0 {
					part += " "
				}
				part += fmt.Sprintf("%s@%d:%d", h.Author, h.Incarnation, h.Seq)
			}
			parts = append(parts, part+"}")
		}
		return "vectors " + strings.Join(parts, ", ")
	case *wire.Batch:
		return fmt.Sprintf("batch %s/%s by %s@%d: %d to %d", m.Chain.Site, m.Chain.Class, m.Chain.Author, m.Chain.Incarnation, m.First, m.Checkpoint.Seq)
	case *wire.Ack:
		return fmt.Sprintf("ack %s/%s by %s@%d: %d", m.Chain.Site, m.Chain.Class, m.Chain.Author, m.Chain.Incarnation, m.Seq)
	case *wire.Proof:
		return fmt.Sprintf("proof of %d streams", m.Streams)
	case *wire.Decline:
		var parts []string
		for _, s := range m.Streams {
			parts = append(parts, fmt.Sprintf("%s/%s", s.Site, s.Class))
		}
		return "decline " + strings.Join(parts, ", ")
	case *wire.Resend:
		return fmt.Sprintf("resend %s/%s by %s@%d from %d", m.Chain.Site, m.Chain.Class, m.Chain.Author, m.Chain.Incarnation, m.First)
	case *wire.Bye:
		return fmt.Sprintf("bye: %s: %s", m.Code, m.Reason)
	default:
		return fmt.Sprintf("message of type %d", m.Type())
	}
}
