package run

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/testbed/content"
	"github.com/tiermesh/tiermesh/testbed/data"
	"github.com/tiermesh/tiermesh/testbed/oracle"
	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// reporters is how many reports one load has under way; when all wait, no more
// are handed out.
const reporters = 64

// retryEvery is the wait before a report is handed to a site again.
const retryEvery = 100 * time.Millisecond

// ledger is what was reported, and what of it was acknowledged.
type ledger struct {
	mu       sync.Mutex // guards all fields
	rand     *rand.Rand
	requests []data.Request // the source's rows; read once
	next     int
	reported uint64
	acked    []oracle.Acked
	moves    []oracle.Acked // on tasks
	others   []oracle.Acked // of other documents: merges, orders, receipts, the mode
}

func newLedger(seed uint64) *ledger {
	return &ledger{rand: rand.New(rand.NewPCG(seed, 0x10ad))} //nolint:gosec // a load, not a secret
}

func (l *ledger) waiting() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reported - uint64(len(l.acked))
}

func (l *ledger) counts() (reported, acked uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reported, uint64(len(l.acked))
}

// all returns what was acknowledged so far.
func (l *ledger) all() []oracle.Acked {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Concat(l.acked, l.moves, l.others)
}

// reports returns the reports of all.
func (l *ledger) reports() []oracle.Acked {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.acked)
}

// moved notes a move on a task that a site acknowledged.
func (l *ledger) moved(site tiers.SiteID, key string, done api.WriteResult) {
	l.note(&l.moves, site, key, done)
}

// wrote notes any other write that a site acknowledged.
func (l *ledger) wrote(site tiers.SiteID, key string, done api.WriteResult) {
	l.note(&l.others, site, key, done)
}

func (l *ledger) note(to *[]oracle.Acked, site tiers.SiteID, key string, done api.WriteResult) {
	a, ok := madeWrite(site, key, done)
	l.mu.Lock()
	defer l.mu.Unlock()
	if ok {
		*to = append(*to, a)
	}
}

// moveCount is how many moves on tasks were acknowledged.
func (l *ledger) moveCount() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.moves)
}

// make makes the next report of a step.
func (l *ledger) make(line int, c scenario.Report) (event.Report, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.requests == nil {
		var err error
		if l.requests, err = content.Requests(); err != nil {
			return event.Report{}, err
		}
	}
	l.reported++
	key := fmt.Sprintf("line-%d-%d", line, l.reported)
	r := content.Report(key, l.requests[l.next%len(l.requests)])
	l.next++
	if c.From == scenario.SourceMade {
		r = event.Report{
			SourceKey: key, Type: "01001", Title: "井盖异常 " + key, Text: strings.Repeat("供水井盖缺失, ", 1+l.rand.IntN(40)), Place: "人民路",
			Priority: 3, Reporter: "网格员", Channel: "app", ReportedAtMS: time.Now().UnixMilli(),
		}
	}
	if c.Urgent {
		r.Priority = 1
	}
	return r, nil
}

// pick chooses the site of the next report: a random one of those that are up, or
// of all when none is.
func (p *player) pick(ids []tiers.SiteID) tiers.SiteID {
	p.ledger.mu.Lock()
	first := p.ledger.rand.IntN(len(ids))
	p.ledger.mu.Unlock()
	for i := range ids {
		if id := ids[(first+i)%len(ids)]; !p.net.isDown(id) {
			return id
		}
	}
	return ids[first]
}

// report hands reports to sites. Without a rate it returns when those at sites
// that are up are acknowledged; the rest is handed in while the script goes on.
func (p *player) report(ctx context.Context, line int, c scenario.Report) error {
	ids := c.At.Of(p.tree.rows())
	if c.PerSecond > 0 {
		p.beside.Go(func() { p.fatal(p.reportSteadily(p.beside.loads, line, c, ids)) })
		return nil
	}
	slots := make(chan struct{}, reporters)
	var up sync.WaitGroup
	for i := range c.Count {
		r, err := p.ledger.make(line, c)
		if err != nil {
			return err
		}
		id := ids[i%len(ids)]
		if p.net.isDown(id) {
			p.beside.Go(func() { p.fatal(p.hand(p.beside.running, id, r)) })
			continue
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		up.Go(func() {
			p.fatal(p.hand(ctx, id, r))
			<-slots
		})
	}
	up.Wait()
	return errors.Join(ctx.Err(), p.broken())
}

// reportSteadily hands out reports at a rate. One that is late is not made up for
// when every reporter waits.
func (p *player) reportSteadily(ctx context.Context, line int, c scenario.Report, ids []tiers.SiteID) error {
	gap := time.Duration(float64(time.Second) / c.PerSecond)
	began := time.Now()
	slots := make(chan struct{}, reporters)
	for i := 0; ctx.Err() == nil && (c.For == 0 || time.Since(began) < c.For); i++ {
		if wait(ctx, time.Until(began.Add(time.Duration(i)*gap))) != nil {
			return nil //nolint:nilerr // hush, or the end of the run
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			continue
		}
		r, err := p.ledger.make(line, c)
		if err != nil {
			return err
		}
		id := p.pick(ids)
		p.beside.Go(func() {
			p.fatal(p.hand(p.beside.running, id, r))
			<-slots
		})
	}
	return nil
}

// hand hands a report to a site until that acknowledges it or ctx ends; a retry
// has the same key.
func (p *player) hand(ctx context.Context, id tiers.SiteID, r event.Report) error {
	if _, err := p.handed(ctx, id, r); err != nil && ctx.Err() == nil {
		return err
	}
	return nil // what ctx has ended counts as not acknowledged
}

// handed is hand that returns where the event stands, and ctx's error.
func (p *player) handed(ctx context.Context, id tiers.SiteID, r event.Report) (oracle.Acked, error) {
	var done api.WriteResult
	err := p.insist(ctx, id, func(s Site) (err error) {
		done, err = s.Report(ctx, api.ReportRequest{Key: r.SourceKey, Report: r})
		return err
	})
	if err != nil {
		return oracle.Acked{}, fmt.Errorf("report %s at %s: %w", r.SourceKey, id, err)
	}
	stream, err := parseStream(done.Stream)
	if err != nil {
		return oracle.Acked{}, err
	}
	a := oracle.Acked{
		Site: id, Key: r.SourceKey, Stream: stream, Doc: done.ID, Seq: done.Seq, Urgent: stream.Class == tiers.ClassUrgent, At: time.Now(),
	}
	p.ledger.mu.Lock()
	p.ledger.acked = append(p.ledger.acked, a)
	p.ledger.mu.Unlock()
	if a.Urgent {
		p.urgent.acked(a)
	}
	return a, nil
}

// insist asks a site until it answers with anything but that it cannot now.
func (p *player) insist(ctx context.Context, id tiers.SiteID, ask func(Site) error) error {
	for {
		s, err := p.w.Site(id)
		if err == nil {
			err = ask(s)
		}
		if err == nil || !passing(err) {
			return err
		}
		if wait(ctx, retryEvery) != nil {
			return fmt.Errorf("%w; the last answer was: %w", ctx.Err(), err)
		}
	}
}

// passing reports whether an error may be gone at the next attempt, and whether a
// write that met it has to be repeated with its key.
func passing(err error) bool {
	for _, e := range []error{
		ErrDown, api.ErrUnknownOutcome, api.ErrUnavailable, api.ErrUnreachable, replication.ErrClosed, replication.ErrUnknown, replication.ErrNotLeader,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// parseStream reads a stream as the API writes it: site/class.
func parseStream(s string) (tiers.StreamID, error) {
	site, class, _ := strings.Cut(s, "/")
	c, err := tiers.ParseClass(class)
	if err != nil {
		return tiers.StreamID{}, fmt.Errorf("stream %q: %w", s, err)
	}
	return tiers.StreamID{Site: tiers.SiteID(site), Class: c}, nil
}

// publish has the city publish its catalog.
func (p *player) publish(ctx context.Context) error {
	entries, err := content.Catalog()
	if err != nil {
		return err
	}
	return p.insist(ctx, p.tree.city(), func(s Site) error { return s.Publish(ctx, "catalog", entries) })
}

// fatal ends the run for something that went wrong beside the steps.
func (p *player) fatal(err error) {
	if err == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed == nil {
		p.failed = err
	}
}

// broken returns what went wrong beside the steps so far.
func (p *player) broken() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}
