package node

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/federation"
	"github.com/tiermesh/tiermesh/transport"
	"github.com/tiermesh/tiermesh/transport/wire"
)

// probe asks a running session, and its peer, from outside the session's loop.
type probe struct {
	// asks are run by the loop, one between two steps.
	asks  chan func(*federation.Session)
	meter rateMeter // belongs to the loop
	allow allowance // likewise

	mu      sync.Mutex // guards pending
	pending map[wire.Nonce]chan *wire.Proved
}

// lastSession is what outlives the sessions with one peer, until the node ends.
type lastSession struct {
	rates  Rates
	chains []federation.ChainState // nil until the first session ended
	lacks  uint64                  // feature bits that the peer did not have
	oneWay bool                    // one-way streams were exchanged
	apart  []crdt.ChainID          // chains of these that stay different
	path   transport.Path
}

// end takes what a session that ended knew; nil when the peer never said hello.
func (l *lastSession) end(chains []federation.ChainState) {
	l.rates.OutNow, l.rates.InNow = 0, 0
	if chains != nil {
		l.chains = chains
	}
}

func newProbe() *probe {
	return &probe{asks: make(chan func(*federation.Session)), pending: map[wire.Nonce]chan *wire.Proved{}}
}

// expect opens a place for the answer to a question.
func (p *probe) expect(n wire.Nonce) chan *wire.Proved {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := make(chan *wire.Proved, 1)
	p.pending[n] = c
	return c
}

func (p *probe) forget(n wire.Nonce) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.pending, n)
}

// answered hands an answer to who waits for it; one that nobody asked for is
// dropped.
func (p *probe) answered(m *wire.Proved) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.pending[m.Nonce]; c != nil {
		delete(p.pending, m.Nonce)
		c <- m
	}
}

// chains returns what the session knows of every chain; nil when the peer has
// not said hello yet or the link is ending.
func (d *linkDriver) chains(ctx context.Context) []federation.ChainState {
	out := make(chan []federation.ChainState, 1)
	select {
	case d.probe.asks <- func(s *federation.Session) { out <- known(s) }:
		return <-out
	case <-d.done:
		return nil
	case <-ctx.Done():
		return nil
	}
}

// known is what a session knows of every chain once the peer said what it holds.
func known(s *federation.Session) []federation.ChainState {
	if s == nil || !s.Status().Greeted {
		return nil
	}
	return s.Chains()
}

// A peer may ask for so many proofs a second, and for so many at once: each costs
// a digest of every shared stream. More are answered with a reason.
const (
	proofsPerSecond = 10
	proofsAtOnce    = 40
)

// allowance is how many questions a peer may still ask.
type allowance struct {
	used float64
	at   time.Time
}

func (a *allowance) take(now time.Time) bool {
	a.used = max(0, a.used-proofsPerSecond*now.Sub(a.at).Seconds())
	a.at = now
	if a.used > proofsAtOnce-1 {
		return false
	}
	a.used++
	return true
}

// proofs takes the peer's questions and answers from the session.
func (d *linkDriver) proofs(ctx context.Context, messages []wire.Message) error {
	for _, m := range messages {
		switch m := m.(type) {
		case *wire.Proved:
			d.probe.answered(m)
		case *wire.Prove:
			answer, err := d.answer(m)
			if err != nil {
				return err
			}
			if err := d.put(ctx, 0, answer); err != nil {
				return err
			}
		}
	}
	return nil
}

// answer compares what the peer asks about with what this site holds now.
func (d *linkDriver) answer(m *wire.Prove) (*wire.Proved, error) {
	n, self, now := d.n, d.n.creds.ID.Site, d.n.opts.Now()
	if !d.probe.allow.take(now) {
		return &wire.Proved{Nonce: m.Nonce, TimeMS: now.UnixMilli(), Reason: "asked too often: try again in a second"}, nil
	}
	t := n.Topology()
	held := n.sharedWith(d.peer, d.session.OneWay())
	return federation.AnswerProof(t, self, d.peer, held, m, crdt.Ed25519Signer(n.creds.SiteKey), now.UnixMilli())
}

// A proof is asked for again, so often at most and with this pause, when both
// ends write meanwhile: what one holds is on its way to the other.
const (
	proveAttempts = 20
	provePause    = 100 * time.Millisecond
	// proveTimeout bounds one answer.
	proveTimeout = 5 * time.Second
)

// prove asks a peer, over the live link, whether both hold the same.
func (n *Node) prove(ctx context.Context, peer tiers.SiteID) (out api.ProveResult, err error) {
	for range proveAttempts {
		d := n.links.driver(peer)
		if d == nil {
			return out, fmt.Errorf("%w: there is no link to site %s now; see tiermesh sync status", api.ErrUnavailable, peer)
		}
		if out, err = n.proveOnce(ctx, d); err != nil || out.Equal || out.Reason != "" {
			return out, err
		}
		select {
		case <-time.After(provePause):
		case <-ctx.Done():
			return out, nil
		}
	}
	return out, nil
}

func (n *Node) proveOnce(ctx context.Context, d *linkDriver) (out api.ProveResult, err error) {
	t := n.Topology()
	var nonce wire.Nonce
	if _, err := n.opts.Random.Read(nonce[:]); err != nil {
		return out, fmt.Errorf("nonce: %w", err)
	}
	held := n.sharedWith(d.peer, d.oneWay())
	question := federation.AskProof(t, held, nonce, n.opts.Now().UnixMilli())
	answers := d.probe.expect(nonce)
	defer d.probe.forget(nonce)
	ctx, cancel := context.WithTimeout(ctx, proveTimeout)
	defer cancel()
	// Through the loop, so that no question goes out before hello.
	if d.chains(ctx) == nil {
		return out, fmt.Errorf("%w: site %s has not said hello yet: try again", api.ErrUnavailable, d.peer)
	}
	select {
	case d.lanes[0] <- question:
	case <-d.done:
	case <-ctx.Done():
	}
	select {
	case m := <-answers:
		return n.judge(t, d.peer, held, question, m)
	case <-d.done:
		return out, fmt.Errorf("%w: the link to site %s ended before it answered: try again", api.ErrUnavailable, d.peer)
	case <-ctx.Done():
		return out, fmt.Errorf("%w: site %s did not answer in %s: it may be of a version that cannot", api.ErrUnavailable, d.peer, proveTimeout)
	}
}

// judge makes a certificate of a peer's answer, or says what differs.
func (n *Node) judge(t *tiers.Topology, peer tiers.SiteID, held map[tiers.StreamID]crdt.Vector, asked *wire.Prove, m *wire.Proved) (out api.ProveResult, err error) {
	if len(m.Signature) == 0 {
		out.Reason, out.More = m.Reason, m.More
		for _, c := range federation.Differences(held, m) {
			out.Differences = append(out.Differences, api.ChainDifference{
				Stream: c.Chain.Stream.String(), Author: c.Chain.Author.String(), Mine: c.Mine, Theirs: c.Theirs,
			})
		}
		return out, nil
	}
	c, err := federation.Certify(t, n.creds.ID.Site, peer, held, asked, m, crdt.Ed25519Signer(n.creds.SiteKey))
	if err != nil {
		return out, fmt.Errorf("answer of site %s: %w", peer, err)
	}
	if out.Certificate, err = c.MarshalJSON(); err != nil {
		return out, fmt.Errorf("certificate: %w", err)
	}
	out.Equal = true
	return out, nil
}
