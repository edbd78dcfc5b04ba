package federation

import (
	"fmt"
	"maps"
	"slices"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/transport/wire"
)

// Version is the protocol version that this package speaks.
const Version = 1

// The feature bits of a Hello; what both ends have is in force.
const (
	// FeatureDisputes says that a site can go on over a chain that forks: it knows
	// [wire.Resend]. Without it a fork ends the session.
	FeatureDisputes uint64 = 1 << 0

	// FeatureWhole reads the vectors that a Hello holds, and does without the
	// Vectors of those streams.
	FeatureWhole uint64 = 1 << 1

	// FeatureOneWay takes in from a former parent what that wrote while it was one
	// (see [Exchanged]). A peer without it would end the link.
	FeatureOneWay uint64 = 1 << 2
	// Features are the bits that this package has.
	Features = FeatureDisputes | FeatureWhole | FeatureOneWay
)

// Config describes one end of a link.
type Config struct {
	Self, Peer tiers.SiteID
	// Node is this node's number inside its site.
	Node        uint32
	Incarnation uint32
	Topology    *tiers.Topology
	// BatchBytes is the size at which a batch ends at the latest; zero means
	// 128 KiB. On a slow link batches are smaller.
	BatchBytes int
	// WindowBytes bounds what is sent and not acknowledged: on each urgent lane,
	// and on all others together, whose window is less on a slow link; zero means
	// 4 MiB.
	WindowBytes int
	// FlightsMax bounds the batches that are sent and not acknowledged on a lane
	// without a backlog, so that records that come one by one while the peer is
	// busy travel together; zero means 4.
	FlightsMax int
	// HelloHeads is up to how many chains the hello holds all vectors, which saves
	// half a round trip; zero means 64, less than zero none.
	HelloHeads int
	// StallTicks is how many ticks without progress end the session while
	// something is owed or awaited; zero means 300. The driver adds jitter, so
	// that links that stalled together are not reset together.
	StallTicks int
	// ProofTicks is how many ticks two idle ends may disagree about their
	// digests before the session ends and starts over; zero means 100.
	ProofTicks int
	// Without are bits of [Features] that this end does without, as an older build
	// does.
	Without uint64
}

// features are the bits that this end has.
func (c Config) features() uint64 { return Features &^ c.Without }

func (c Config) withDefaults() Config {
	if c.BatchBytes == 0 {
		c.BatchBytes = 128 << 10
	}
	if c.WindowBytes == 0 {
		c.WindowBytes = 4 << 20
	}
	if c.FlightsMax == 0 {
		c.FlightsMax = 4
	}
	if c.HelloHeads == 0 {
		c.HelloHeads = 64
	}
	if c.StallTicks == 0 {
		c.StallTicks = 300
	}
	if c.ProofTicks == 0 {
		c.ProofTicks = 100
	}
	return c
}

// Outgoing is a message to send on a lane.
type Outgoing struct {
	Lane    tiers.Lane
	Message wire.Message
}

// Load asks the driver for records of a chain from First to at most Last,
// about Bytes long, ending in a checkpoint. It answers with [Session.Loaded].
type Load struct {
	Chain       crdt.ChainID
	First, Last uint64
	Bytes       int
}

// Range is a verified run of records to make durable. The driver answers each
// with [Session.Ingested], in the order given.
type Range struct {
	Chain      crdt.ChainID
	First      uint64
	Records    [][]byte
	Checkpoint crdt.Checkpoint
	// Bytes is the size of the records.
	Bytes int
	// Known says that the site seems to hold the records already: they are to be
	// compared, which costs no write.
	Known bool
}

// Ready is what the driver must do now.
type Ready struct {
	Send    []Outgoing
	Loads   []Load
	Ingests []Range
	// RolledBack is set when the peer shows records of this site's own chain, signed
	// by this site, that the session does not know of. When the store does not hold
	// as much either, the site was restored from an old copy of itself and must start
	// a new incarnation.
	RolledBack *Claim
	// Proofs are the peer's questions ([wire.Prove]) and its answers to this
	// site's ([wire.Proved]).
	Proofs []wire.Message
	// Disputes are the peer's side of chains of which the two ends hold different
	// records: to be compared with the store, see [Session.Ask].
	Disputes []Dispute
	// Alarms are findings for the operator.
	Alarms []string
	// Refusals are what the peer sent and this site did not take, by reason.
	Refusals []wire.Code
	// Close, when set, ends the session: send it, then close the link.
	Close *wire.Bye
	// Bye is the peer's goodbye, when it said one.
	Bye *wire.Bye
}

// Claim is how far a peer has shown that a chain goes.
type Claim struct {
	Chain crdt.ChainID
	Head  crdt.Head
}

// flight is a batch that was sent and not acknowledged.
type flight struct {
	chain crdt.ChainID
	end   crdt.Head
	bytes int
	stamp stamp
}

// laneOut is what is under way on one lane.
type laneOut struct {
	flights []flight
	bytes   int
	// backlog says that the last batch was a full one: more waits.
	backlog bool
}

// Session is one end of a link. The zero value is not usable; see [New].
type Session struct {
	cfg   Config
	local map[tiers.StreamID]crdt.Vector
	// greeting is local as the Hello described it; nil once the peer's came.
	greeting map[tiers.StreamID]crdt.Vector
	peerHas  map[crdt.ChainID]crdt.Head // what the peer is known to hold
	awaiting map[tiers.StreamID]struct{}
	greeted  bool
	in       inbound
	out      outbound
	pace     pace
	ready    Ready
	proof    proofState
	peer     peerState
	// disputes are the chains that differ, and whether the peer was told so; both
	// ends leave them out.
	disputes map[crdt.ChainID]bool
	idle     progress
	closed   bool
}

// peerState is what the peer's Hello said, and what follows from it.
type peerState struct {
	version         uint16 // of the protocol, that both speak
	toldAll         bool   // the hello held every vector
	features        uint64 // that both have
	topologyVersion uint64
	incarnation     uint32
	// handover says that the two sites are not linked by the topology here: only
	// control streams are exchanged, so that whoever is behind learns of it.
	handover bool
	// handoverFor is for how many ticks a handover had nothing left to do.
	handoverFor int
	declined    map[tiers.StreamID]struct{} // by either end
	oneWay      bool                        // one-way streams are exchanged
	behind      bool                        // it holds more of a former parent's chain; told
	strays      int                         // batches of streams that are not shared
	unheld      int                         // chains of its vectors of which nothing is held here
}

// outbound is what the peer lacks and what is on its way there.
type outbound struct {
	sent    map[crdt.ChainID]uint64   // what the peer will hold once all flights land
	owed    map[crdt.ChainID]struct{} // chains to send from
	loading map[crdt.ChainID]struct{}
	lanes   [tiers.LaneCount]laneOut
}

// inbound is what the local site lacks and what is on its way into its store.
type inbound struct {
	received map[crdt.ChainID]crdt.Head // what will be held once all ingests land
	wanted   map[crdt.ChainID]uint64    // what the peer said it holds beyond that
	shown    map[crdt.ChainID]uint64    // how far the peer's batches went
	open     int                        // ingests under way
}

// proofState is what both ends said of their digests.
type proofState struct {
	mine, theirs     crdt.Hash
	sentMine, have   bool
	disagreeing      int
	equal            bool
	equalAtHandshake bool
	dirty            bool // local or peer state changed since mine was computed
}

// New starts a session from the local vectors. It takes ownership of local and
// keeps of it only what the two sites exchange ([Exchanged]). The first Ready holds
// the Hello.
func New(cfg Config, local map[tiers.StreamID]crdt.Vector) *Session {
	s := &Session{
		cfg: cfg.withDefaults(), local: map[tiers.StreamID]crdt.Vector{},
		peerHas: map[crdt.ChainID]crdt.Head{}, awaiting: map[tiers.StreamID]struct{}{},
		disputes: map[crdt.ChainID]bool{},
		peer: peerState{
			handover: !cfg.Topology.Linked(cfg.Self, cfg.Peer), declined: map[tiers.StreamID]struct{}{},
			oneWay: cfg.features()&FeatureOneWay != 0,
		},
		in: inbound{received: map[crdt.ChainID]crdt.Head{}, wanted: map[crdt.ChainID]uint64{}, shown: map[crdt.ChainID]uint64{}},
		out: outbound{
			sent: map[crdt.ChainID]uint64{}, owed: map[crdt.ChainID]struct{}{},
			loading: map[crdt.ChainID]struct{}{},
		},
	}
	for stream, v := range local {
		if len(v) == 0 || !s.shared(stream) {
			continue
		}
		if v = part(v, s.sole(stream)); len(v) > 0 {
			s.local[stream] = v
		}
	}
	s.greeting = make(map[tiers.StreamID]crdt.Vector, len(s.local))
	for stream, v := range s.local {
		s.greeting[stream] = maps.Clone(v)
	}
	digests := s.digests()
	hello := &wire.Hello{
		VersionMin: Version, VersionMax: Version, Federation: cfg.Topology.Federation(),
		Site: cfg.Self, Node: cfg.Node, TopologyVersion: cfg.Topology.Version(),
		Incarnation: cfg.Incarnation, LinkDigest: wire.Hash(crdt.LinkDigest(digests)), Features: s.cfg.features(),
	}
	for _, stream := range sorted(digests) {
		hello.Streams = append(hello.Streams, wire.StreamDigest{
			Site: stream.Site, Class: stream.Class, Digest: wire.Hash(digests[stream]),
		})
	}
	if heads := s.heads(); heads <= s.cfg.HelloHeads && s.cfg.features()&FeatureWhole != 0 {
		hello.Whole = true
		for _, d := range hello.Streams {
			stream := tiers.StreamID{Site: d.Site, Class: d.Class}
			hello.Vectors = append(hello.Vectors, wireVector(stream, s.local[stream]))
		}
	}
	s.peer.toldAll = hello.Whole
	s.send(0, hello)
	return s
}

// heads is how many chains the two sites share here.
func (s *Session) heads() (n int) {
	for _, v := range s.local {
		n += len(v)
	}
	return n
}

func (s *Session) digests() map[tiers.StreamID]crdt.Hash {
	out := make(map[tiers.StreamID]crdt.Hash, len(s.local))
	for stream, v := range s.local {
		if v = s.comparable(stream, v); len(v) > 0 {
			out[stream] = v.Digest(stream)
		}
	}
	return out
}

func (s *Session) send(lane tiers.Lane, m wire.Message) {
	s.ready.Send = append(s.ready.Send, Outgoing{Lane: lane, Message: m})
}

// close ends the session once; later calls are ignored.
func (s *Session) close(code wire.Code, format string, args ...any) {
	if s.closed {
		return
	}
	s.closed = true
	s.ready.Loads, s.ready.Ingests, s.ready.Disputes = nil, nil, nil
	if refusal(code) {
		s.ready.Refusals = append(s.ready.Refusals, code)
	}
	s.ready.Close = &wire.Bye{Code: code, Reason: fmt.Sprintf(format, args...)}
}

func (s *Session) alarm(format string, args ...any) {
	s.ready.Alarms = append(s.ready.Alarms, fmt.Sprintf(format, args...))
}

// Step takes in one message of the peer's. After a close it does nothing.
func (s *Session) Step(m wire.Message) {
	if s.closed {
		return
	}
	if _, hello := m.(*wire.Hello); !hello && !s.greeted {
		if _, bye := m.(*wire.Bye); !bye {
			s.close(wire.CodeProtocol, "message of type %d before hello", m.Type())
			return
		}
	}
	if !s.heard() {
		return
	}
	switch m := m.(type) {
	case *wire.Hello:
		s.stepHello(m)
	case *wire.Vectors:
		s.stepVectors(m)
	case *wire.Batch:
		s.stepBatch(m)
	case *wire.Ack:
		s.stepAck(m)
	case *wire.Proof:
		s.proof.theirs, s.proof.have = crdt.Hash(m.LinkDigest), true
	case *wire.Prove, *wire.Proved:
		s.ready.Proofs = append(s.ready.Proofs, m)
	case *wire.Decline:
		s.stepDecline(m)
	case *wire.Resend:
		s.stepResend(m)
	case *wire.Bye:
		s.ready.Bye = m
		s.close(wire.CodeOK, "peer said: %s: %s", m.Code, m.Reason)
	default:
		// An unknown message of a later version is skipped.
	}
}

// Local tells the session that the local site now holds a chain up to head,
// whoever wrote it and whichever way it came.
func (s *Session) Local(chain crdt.ChainID, head crdt.Head) {
	if s.closed || !s.exchanged(chain) {
		return
	}
	v := s.local[chain.Stream]
	if v == nil {
		v = crdt.Vector{}
		s.local[chain.Stream] = v
	}
	if head.Seq <= v[chain.Author].Seq {
		return
	}
	v[chain.Author] = head
	s.proof.dirty = true
	s.consider(chain)
}

// localHead returns the head of a chain here, counting ingests under way.
func (s *Session) localHead(chain crdt.ChainID) crdt.Head {
	head := chain.Origin()
	if h, ok := s.local[chain.Stream][chain.Author]; ok {
		head = h
	}
	if h, ok := s.in.received[chain]; ok && h.Seq > head.Seq {
		head = h
	}
	return head
}

// Tick marks the passing of one unit of time; the driver chooses which.
func (s *Session) Tick() {
	if s.closed {
		return
	}
	s.tickProof()
	s.idle.talk = max(s.idle.talk-talkPerTick, 0)
	idle := s.idle.tick(s.waiting(), s.owing())
	if s.settled() {
		s.tickHandover()
		return
	}
	if idle > s.cfg.StallTicks {
		s.alarm("link to %s makes no progress", s.cfg.Peer)
		s.close(wire.CodeStalled, "no progress in %d ticks while records are owed", s.cfg.StallTicks)
	}
}

// settled reports whether nothing is owed, awaited or under way.
func (s *Session) settled() bool { return !s.waiting() && !s.owing() }

// waiting reports whether something is to come from the peer, or on its way into
// the store.
func (s *Session) waiting() bool { return !s.greeted || len(s.awaiting) > 0 || s.in.open > 0 }

// owing reports whether something is to be sent to the peer, or acknowledged.
func (s *Session) owing() bool {
	return len(s.out.owed) > 0 || len(s.out.loading) > 0 ||
		slices.ContainsFunc(s.out.lanes[:], func(l laneOut) bool { return len(l.flights) > 0 })
}

// tickProof exchanges digests when this end has nothing left to do, and ends a
// session whose ends stay unequal although both are idle.
func (s *Session) tickProof() {
	if !s.settled() {
		s.proof.disagreeing = 0
		return
	}
	if s.proof.dirty || !s.proof.sentMine {
		digests := s.digests()
		s.proof.mine = crdt.LinkDigest(digests)
		s.proof.sentMine, s.proof.dirty = true, false
		s.send(0, &wire.Proof{LinkDigest: wire.Hash(s.proof.mine), Streams: uint64(len(digests))})
	}
	s.proof.equal = s.proof.have && s.proof.theirs == s.proof.mine
	if s.proof.equal || !s.proof.have {
		s.proof.disagreeing = 0
		return
	}
	if s.proof.disagreeing++; s.proof.disagreeing > s.cfg.ProofTicks {
		s.alarm("digests differ from %s although nothing is owed: comparing anew", s.cfg.Peer)
		s.close(wire.CodeStalled, "digests differ although nothing is owed")
	}
}

// Ready returns what is to be done and forgets it.
func (s *Session) Ready() Ready {
	s.schedule()
	r := s.ready
	s.ready = Ready{}
	return r
}
