package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/federation"
	"github.com/tiermesh/tiermesh/transport"
	"github.com/tiermesh/tiermesh/transport/wire"
)

// Bounds of a link's queues. When ingestQueue batches or ingestBytes of them, and
// at most one frame beyond (wire.FrameBytesMax), wait for the site's Raft, the link is not read, and QUIC's flow control holds
// the peer back; when laneQueue messages wait for the network, the session
// waits, and ends when none leaves for as long as a stall takes.
const (
	ingestQueue = 64
	ingestBytes = 8 << 20
	laneQueue   = 64
)

// linkDriver does the I/O of one session.
type linkDriver struct {
	n    *Node
	link *transport.Link
	peer tiers.SiteID
	done chan struct{} // closed when the link's record is final
	wake chan struct{} // capacity 1: dirty is not empty
	// live is the latest snapshot of the counters; links.mu guards it.
	live LinkTotals

	talk linkTalk
	beat beat

	session *federation.Session // belongs to the loop
	intake  intake
	lanes   [tiers.LaneCount]chan wire.Message
	probe   *probe

	mu     sync.Mutex // guards the fields below
	dirty  map[crdt.ChainID]crdt.Head
	status linkStatus
}

// intake is what the loop has taken in.
type intake struct {
	ranges, bytes int // proposed and not settled
	frame         int // size of the message that was stepped last
}

// linkTalk is what the driver tells and is told besides. It belongs to the loop.
type linkTalk struct {
	compared func()      // told once when both ends have compared; nil for nobody
	bye      *wire.Bye   // the peer's, final when done is closed
	closing  atomic.Bool // this end said why it closes; any goroutine may ask
}

// linkStatus is what the loop publishes after each step.
type linkStatus struct {
	federation.Status
	lastContact, provenAt time.Time
	rtt                   time.Duration
	path                  transport.Path
	rates                 Rates
	totals                LinkTotals
	received              uint64 // UDP bytes, when they were last looked at
}

// movesNothing says that there is nothing to move, which shows that the peer is
// there and takes part.
func (s linkStatus) movesNothing() bool { return s.Settled && s.Greeted && !s.Handover }

// ingestJob is a range to make durable and the size of the frame it came in.
type ingestJob struct {
	federation.Range
	frame int
}

type ingested struct {
	r   federation.Range
	err error
}

func newLinkDriver(n *Node, link *transport.Link) *linkDriver {
	d := &linkDriver{
		n: n, link: link, peer: link.Peer().Site,
		done: make(chan struct{}), wake: make(chan struct{}, 1), dirty: map[crdt.ChainID]crdt.Head{},
		probe: newProbe(), beat: newBeat(n.opts),
	}
	for i := range d.lanes {
		d.lanes[i] = make(chan wire.Message, laneQueue)
	}
	return d
}

func (d *linkDriver) close(code wire.Code, why string) { _ = d.link.Close(code, why) }

// grew notes chains that the store has more of; it never blocks.
func (d *linkDriver) grew(chains map[crdt.ChainID]crdt.Head) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for c, h := range chains {
		d.dirty[c] = h
	}
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// run drives the session until the link ends and returns why; nil when this
// end closed in order.
func (d *linkDriver) run(ctx context.Context) error {
	// The driver is registered already: what is committed from here on arrives
	// in dirty, so nothing falls between this snapshot and the first wake.
	local := map[tiers.StreamID]crdt.Vector{}
	st := d.n.group.Store()
	for _, s := range st.Streams() {
		local[s] = st.Vector(s)
	}
	d.session = federation.New(federation.Config{
		Self: d.n.creds.ID.Site, Peer: d.peer, Node: d.n.creds.ID.Node,
		Incarnation: st.Incarnation(), Topology: d.n.Topology(), StallTicks: stallTicks(), Without: d.n.opts.Without,
	}, local)

	messages := make(chan received)
	ingests := make(chan ingestJob, ingestQueue)
	proposed := make(chan proposed, ingestQueue)
	results := make(chan ingested, ingestQueue)
	g, ctx := errgroup.WithContext(ctx) // all end when one of them does
	g.Go(func() error { return d.receive(ctx, messages) })
	g.Go(func() error { return d.propose(ctx, ingests, proposed) })
	g.Go(func() error { return d.commit(ctx, proposed, results) })
	for lane := range d.lanes {
		g.Go(func() error { return d.transmit(ctx, tiers.Lane(lane)) })
	}
	g.Go(func() error { return d.loop(ctx, messages, ingests, results) })
	err := g.Wait()
	d.broken(d.link.Err())                // whichever loop was the first to meet it
	d.close(wire.CodeShutdown, "closing") // a no-op when it is closed already
	return err
}

type received struct {
	m    wire.Message
	size int
}

func (d *linkDriver) receive(ctx context.Context, out chan<- received) error {
	for {
		m, size, err := d.link.Recv(ctx)
		if err != nil {
			return err
		}
		select {
		case out <- received{m, size}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// transmit writes one lane's messages in order.
func (d *linkDriver) transmit(ctx context.Context, lane tiers.Lane) error {
	for {
		select {
		case m := <-d.lanes[lane]:
			if _, err := d.link.Send(ctx, lane, m); err != nil {
				return err
			}
			if b, ok := m.(*wire.Batch); ok {
				d.count(func(t *LinkTotals) {
					t.SentRecords += uint64(len(b.Records))
					t.SentRecordBytes += sizeOf(b.Records)
				})
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// proposed is a range on its way into the site's log.
type proposed struct {
	ingestJob
	wait func() (fresh int, err error)
}

// propose hands ranges to the site's Raft, in order, without waiting for each:
// while one is written the next are on their way.
func (d *linkDriver) propose(ctx context.Context, in <-chan ingestJob, out chan<- proposed) error {
	for {
		select {
		case r := <-in:
			wait := d.n.startIngest(ctx, r.Range)
			select {
			case out <- proposed{r, wait}:
			case <-ctx.Done():
				return ctx.Err()
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// commit tells the loop what became of each range, in order.
func (d *linkDriver) commit(ctx context.Context, in <-chan proposed, out chan<- ingested) error {
	for {
		select {
		case r := <-in:
			fresh, err := r.wait()
			d.count(func(t *LinkTotals) {
				t.ReceivedRecords += uint64(len(r.Records))
				t.ReceivedRecordBytes += uint64(r.Bytes)
				t.BatchBytes += uint64(r.frame)
				t.NeededBytes += uint64(r.frame) * uint64(fresh) / uint64(len(r.Records))
			})
			select {
			case out <- ingested{r.Range, err}:
			case <-ctx.Done():
				return ctx.Err()
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (d *linkDriver) count(f func(*LinkTotals)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f(&d.status.totals)
}

// loop owns the session: it carries out what is ready, then waits for the next
// thing that happens.
func (d *linkDriver) loop(ctx context.Context, messages <-chan received, ingests chan<- ingestJob, results <-chan ingested) error {
	d.beat.begin()
	defer d.beat.end()
	for {
		if err := d.perform(ctx, ingests); err != nil {
			return err
		}
		d.keepBeat()
		in := messages
		if d.intake.ranges >= ingestQueue || d.intake.bytes >= ingestBytes {
			in = nil
		}
		select {
		case r := <-in:
			d.contact()
			d.intake.frame = r.size
			d.session.Now(d.beat.since())
			d.session.Step(r.m)
			d.progress(r.m)
		case r := <-results:
			d.intake.ranges--
			d.intake.bytes -= r.r.Bytes
			d.stored(r)
		case <-d.wake:
			for chain, head := range d.takeDirty() {
				d.session.Local(chain, head)
			}
		case ask := <-d.probe.asks:
			ask(d.session)
		case <-d.beat.ticks():
			d.beat.count.Add(1)
			d.session.Tick()
			d.publish()
			if d.link.Grown() && d.session.Quiet() {
				why := &transport.ClosedError{Code: wire.CodeOK, Reason: "the size of packets is found anew"}
				d.close(why.Code, why.Reason)
				return why
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (d *linkDriver) takeDirty() map[crdt.ChainID]crdt.Head {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := d.dirty
	d.dirty = map[crdt.ChainID]crdt.Head{}
	return out
}

// perform carries out everything that the session wants done now.
func (d *linkDriver) perform(ctx context.Context, ingests chan<- ingestJob) error {
	for {
		r := d.session.Ready()
		for _, a := range r.Alarms {
			d.n.log.Warn("link alarm", "peer", string(d.peer), "err", a)
			d.n.alarms.raiseOf(d.peer, a)
		}
		d.refused(r)
		if r.Bye != nil {
			d.talk.bye = r.Bye
		}
		for _, x := range r.Disputes {
			if err := d.settle(ctx, x); err != nil {
				return err
			}
		}
		if r.RolledBack != nil {
			d.n.rolledBack(ctx, string(d.peer), *r.RolledBack)
		}
		if err := d.proofs(ctx, r.Proofs); err != nil {
			return err
		}
		for _, o := range r.Send {
			if err := d.put(ctx, o.Lane, o.Message); err != nil {
				return err
			}
		}
		for _, in := range r.Ingests {
			d.intake.ranges++
			d.intake.bytes += in.Bytes
			select {
			case ingests <- ingestJob{in, d.intake.frame}:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		for _, l := range r.Loads {
			if err := d.load(l); err != nil {
				return err
			}
		}
		if r.Close != nil {
			d.publish()
			d.goodbye(ctx, r.Close)
			return &transport.ClosedError{Code: r.Close.Code, Reason: r.Close.Reason}
		}
		if len(r.Loads) == 0 && len(r.Disputes) == 0 {
			return nil
		}
	}
}

// load reads a run for the session.
func (d *linkDriver) load(l federation.Load) error {
	d.session.Now(d.beat.since())
	r, prev, err := d.n.readRange(l.Chain, l.First, l.Last, l.Bytes)
	switch {
	case errors.Is(err, errNoCheckpoint):
		d.session.NotLoaded(l.Chain)
	case err != nil:
		return fmt.Errorf("read %s for %s: %w", l.Chain, d.peer, err)
	default:
		d.session.Loaded(l.Chain, prev, r.First, r.Records, r.Checkpoint)
	}
	return nil
}

// rolledBack starts a new incarnation when the store really holds less of the
// site's own chain than somebody else does. What the peer holds then comes back as
// that of any other author.
func (n *Node) rolledBack(ctx context.Context, holder string, c federation.Claim) {
	st := n.group.Store()
	held := st.Vector(c.Chain.Stream)[c.Chain.Author].Seq
	if held >= c.Head.Seq || c.Chain.Author.Incarnation != st.Incarnation() {
		return // the session had not heard of the latest records
	}
	n.alarms.raise(alarmRolledBack, c.Chain.String(), fmt.Sprintf("this site was rolled back: %s holds %d records of %s, the site %d; starting incarnation %d",
		holder, c.Head.Seq, c.Chain, held, c.Chain.Author.Incarnation+1))
	if err := n.group.NewIncarnation(ctx, c.Chain.Author.Incarnation); err != nil {
		n.log.Error("new incarnation", "err", err)
	}
}

func (d *linkDriver) contact() {
	now := d.n.opts.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.status.lastContact = now
}

// publish makes the session's state visible to readers.
func (d *linkDriver) publish() {
	status, now, stats := d.session.Status(), d.n.opts.Now(), d.link.Stats()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.status.Status = status
	d.status.rates = d.probe.meter.tick(now, d.status.totals.SentRecordBytes, d.status.totals.ReceivedRecordBytes, status.OwedOut, status.OwedIn)
	d.status.look(now, stats.ReceivedBytes)
	d.link.Watch(status.OwedOut > 0 || !status.Greeted)
	if d.status.movesNothing() {
		d.n.links.moved(d.peer)
	}
}

// look notes what can be seen of a link at any time.
func (s *linkStatus) look(now time.Time, received uint64) {
	if received != s.received { // also what keeps an idle link alive
		s.received, s.lastContact = received, now
	}
	if s.Equal {
		s.provenAt = now
	}
}

// snapshot returns the link's state and counters as they are now: on a quiet link
// the session was not asked for a while.
func (d *linkDriver) snapshot() (linkStatus, LinkTotals) {
	stats, rtt, path, now := d.link.Stats(), d.link.RTT(), d.link.Path(), d.n.opts.Now()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.status.rtt, d.status.path = rtt, path
	d.status.look(now, stats.ReceivedBytes)
	totals := d.status.totals
	totals.SentBytes, totals.ReceivedBytes = stats.SentBytes, stats.ReceivedBytes
	return d.status, totals
}

// movesNothing reports what [linkStatus.movesNothing] does, as last published.
func (d *linkDriver) movesNothing() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.status.movesNothing()
}

// absorb takes a session's latest state into the peer's record.
func (r *linkRecord) absorb(s linkStatus) {
	if s.lastContact.After(r.lastContact) {
		r.lastContact = s.lastContact
	}
	if s.provenAt.After(r.provenAt) {
		r.provenAt = s.provenAt
	}
	r.rtt, r.equal, r.disputed = s.rtt, s.Equal, s.Disputed
	r.last.path = s.path
	r.last.rates.follow(s.rates)
	if s.Greeted {
		r.owedOut, r.owedIn = s.OwedOut, s.OwedIn
		r.digest, r.peerDigest = s.Digest, s.PeerDigest
		r.last.lacks = federation.Features &^ s.Features
		r.last.oneWay, r.last.apart = s.OneWay, s.Apart
	}
}
