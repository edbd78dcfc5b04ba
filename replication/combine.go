package replication

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// How client commands share log entries. An entry costs Raft, its log and the
// wire to the other nodes much the same whatever it holds.
const (
	// entriesInFlight is how many entries of this node are under way at once: enough
	// that the log is written, the state machine applies and clients are answered
	// at the same time. Commands that come meanwhile wait and travel together.
	entriesInFlight = 16
	// combinedBytesMax and combinedMax bound what is put together; a larger
	// command goes alone.
	combinedBytesMax = 512 << 10
	combinedMax      = 256
	// waitingMax bounds the commands that wait; past it, whoever proposes waits.
	waitingMax = 1024
	// linger is how long an entry waits at most for half of those who write, where
	// there are crowd or more: longer than it takes to write the log.
	linger = 2 * time.Millisecond
	crowd  = 16
)

// proposal is one command on its way into the log.
type proposal struct {
	data []byte // its encoding
	// alone keeps it out of other commands' entries.
	alone bool
	done  chan settled
}

// settled is a proposal's end: what applying it came to, or Raft's error.
type settled struct {
	outcome outcome
	err     error
}

// combiner puts commands into entries. One goroutine runs it.
type combiner struct {
	g       *Group
	waiting chan *proposal
	// writing holds a token while an entry is on its way into this node's log. The
	// next one gathers commands meanwhile: the log takes one write for all of them.
	writing chan struct{}
	// unsettled counts the commands that were not answered yet.
	unsettled atomic.Int64
	packer    packer // run's alone
}

func newCombiner(g *Group) combiner {
	return combiner{g: g, waiting: make(chan *proposal, waitingMax), writing: make(chan struct{}, 1)}
}

// stored lets the next entry go: the log has one more, or never will. It does no
// harm when that was another's.
func (c *combiner) stored() {
	select {
	case <-c.writing:
	default:
	}
}

// run proposes what comes until waiting is closed, and returns when everything
// is answered.
func (c *combiner) run() {
	slots := make(chan struct{}, entriesInFlight)
	writers := 0 // the most commands that were under way at once lately
	for next := range c.waiting {
		for next != nil {
			slots <- struct{}{} // more gathers while these wait
			c.writing <- struct{}{}
			var batch []*proposal
			writers = max(int(c.unsettled.Load()), writers-writers/32)
			enough := 0
			if writers >= crowd {
				enough = writers / 2
			}
			batch, next = c.gather(next, enough)
			c.packer.may = c.g.store.SiteFormat() >= formatPacked
			future := c.g.raft.Apply(c.packer.entry(batch), 0)
			go func() { // ends when Raft answers, as it does while it runs
				if future.Error() != nil {
					c.stored() // or never will be
				}
				settle(batch, future)
				c.unsettled.Add(-int64(len(batch)))
				<-slots
			}()
		}
	}
	for range entriesInFlight {
		slots <- struct{}{}
	}
}

// gather takes what waits, as far as it fits one entry, and waits a little until
// there are enough. It returns the proposal that did not fit, or nil.
func (c *combiner) gather(first *proposal, enough int) (batch []*proposal, over *proposal) {
	batch, size := []*proposal{first}, len(first.data)
	var late <-chan time.Time
	for len(batch) < combinedMax && !first.alone {
		p, more := c.next(len(batch) < enough, &late)
		if !more {
			break
		}
		if size += len(p.data); size > combinedBytesMax || p.alone {
			return batch, p
		}
		batch = append(batch, p)
	}
	return batch, nil
}

// next returns the next proposal that waits. Those who write would fall into step
// without patience: the first to be answered would have the log written for itself
// alone, and all others would wait for that.
func (c *combiner) next(patient bool, late *<-chan time.Time) (*proposal, bool) {
	select {
	case p, ok := <-c.waiting:
		return p, ok
	default:
	}
	if !patient {
		return nil, false
	}
	if *late == nil {
		*late = time.After(linger)
	}
	select {
	case p, ok := <-c.waiting:
		return p, ok
	case <-*late:
		return nil, false
	}
}

// settle answers the proposals of one entry. It is the only place that looks at
// both of Raft's results: the future's error is Raft's, the response the state
// machine's.
func settle(batch []*proposal, future raft.ApplyFuture) {
	err := raftError(future.Error())
	outcomes, _ := future.Response().([]outcome)
	if err == nil && len(outcomes) != len(batch) {
		err = fmt.Errorf("%w: %d answers to %d commands", ErrUnknown, len(outcomes), len(batch))
	}
	for i, p := range batch {
		s := settled{err: err}
		if err == nil {
			s.outcome = outcomes[i]
		}
		p.done <- s
	}
}

// propose hands one command to Raft and waits for its outcome.
func (g *Group) propose(ctx context.Context, cmd command) (outcome, error) {
	p, err := g.start(ctx, cmd)
	if err != nil {
		return outcome{}, err
	}
	return p.wait(ctx)
}

// start hands one command to the combiner. Commands that one goroutine starts
// are applied in that order.
func (g *Group) start(ctx context.Context, cmd command) (*proposal, error) {
	if err := cmd.check(); err != nil {
		return nil, err
	}
	data, err := g.codec.enc.Marshal(cmd)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadCommand, err)
	}
	if len(data) > entryBytesMax {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(data), entryBytesMax)
	}
	// What is set aside, or thinned, changes what the store holds already: it has a
	// Tx of its own, which begins and ends with an entry.
	p := &proposal{data: data, alone: cmd.alone(), done: make(chan settled, 1)}
	return p, g.enter(ctx, p)
}

// wait waits for a command's outcome.
func (p *proposal) wait(ctx context.Context) (outcome, error) {
	select {
	case s := <-p.done:
		if s.err != nil {
			return outcome{}, s.err
		}
		return s.outcome, s.outcome.err()
	case <-ctx.Done():
		return outcome{}, raftError(context.Cause(ctx))
	}
}

// enter lets a proposal in, unless the group is closing.
func (g *Group) enter(ctx context.Context, p *proposal) error {
	g.gate.RLock()
	defer g.gate.RUnlock()
	if _, _, closed := g.tenure.get(); closed {
		return ErrClosed
	}
	select {
	case g.combine.waiting <- p:
		g.combine.unsettled.Add(1)
		return nil
	case <-ctx.Done():
		return context.Cause(ctx) // it was never proposed
	}
}
