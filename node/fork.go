package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/change"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers/federation"
	"github.com/tiermesh/tiermesh/transport"
	"github.com/tiermesh/tiermesh/transport/wire"
)

// errAgree ends a link over whose dispute something else has decided meanwhile,
// such as another link.
var errAgree = &transport.ClosedError{Code: wire.CodeOK, Reason: "the two histories agree by now"}

// settle compares the peer's side of a fork with the store. When the two part
// within it, this site's records from there on are set aside, and every link
// starts over with what is left.
func (d *linkDriver) settle(ctx context.Context, x federation.Dispute) error {
	st := d.n.group.Store()
	prev, err := st.HashAt(x.Chain, x.First-1)
	if errors.Is(err, store.ErrNotFound) || err == nil && prev != x.Prev {
		d.session.Ask(x.Chain, x.First/2) // they part before
		return nil
	}
	if err != nil {
		return err
	}
	at := crdt.Head{Seq: x.First - 1, Hash: x.Prev}
	for _, r := range x.Records {
		next := at.Next(r)
		mine, err := st.HashAt(x.Chain, next.Seq)
		switch {
		case errors.Is(err, store.ErrNotFound):
			return errAgree
		case err != nil:
			return err
		case mine != next.Hash:
			return d.giveWay(ctx, store.Evict{Chain: x.Chain, Keep: at.Seq, Hash: mine, Proof: x.Checkpoint})
		}
		at = next
	}
	if at.Seq >= x.Last {
		return errAgree
	}
	d.session.Ask(x.Chain, at.Seq+1)
	return nil
}

// giveWay sets this site's side of a fork aside. It waits for the outcome also
// when the link ends meanwhile, as it does when the other copy of a cloned site
// dials: what follows must not depend on who listens.
func (d *linkDriver) giveWay(ctx context.Context, e store.Evict) error {
	n, err := d.n.group.SetAside(context.WithoutCancel(ctx), e)
	signalOne(d.n.links.forked)
	if err != nil && !errors.Is(err, store.ErrMoved) {
		return fmt.Errorf("set aside %s: %w", e.Chain, err)
	}
	if n > 0 {
		d.n.links.closeAll("a chain was set aside")
	}
	return &transport.ClosedError{Code: wire.CodeOK, Reason: "a chain was set aside"}
}

func signalOne(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// runReissue tells of what was set aside, and writes what this site lost in a fork once more, in its new
// incarnation, in each of this node's leaderships and after each fork.
func (n *Node) runReissue(ctx context.Context) error {
	for {
		lead, err := n.group.Lead(ctx)
		if err != nil {
			return nil //nolint:nilerr // only the end of ctx or of the group ends the wait
		}
		for lead.Err() == nil && ctx.Err() == nil {
			err := n.reissueAll(ctx)
			lost := errors.Is(err, replication.ErrNotLeader) || errors.Is(err, replication.ErrUnknown) || errors.Is(err, replication.ErrClosed)
			if err != nil && !lost {
				return err
			}
			var again <-chan time.Time
			if err != nil {
				again = time.After(dispatchRetry)
			}
			select {
			case <-n.links.forked:
			case <-again:
			case <-lead.Done():
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // what the last round came to is tried again after a restart
		}
	}
}

func (n *Node) reissueAll(ctx context.Context) error {
	all, err := n.group.Store().Asides()
	if err != nil {
		return err
	}
	for _, a := range all {
		n.alarms.once(alarmFork, a.Chain.String(), fmt.Sprintf("chain %s forked: %d records from %d on are set aside as evidence, a peer held others signed by the same site: a disk of it was cloned",
			a.Chain, a.Records, a.Kept+1))
		if a.Chain.Author.Site != n.creds.ID.Site {
			continue
		}
		done, err := n.reissue(ctx, a)
		if err != nil {
			return err
		}
		if done < a.Records {
			n.alarms.once(alarmFork, "again "+a.Chain.String(), fmt.Sprintf("of %d records of %s that were set aside, %d were written once more; the others edit documents that both sides of the fork hold, and stay as evidence",
				a.Records, a.Chain, done))
		}
	}
	return nil
}

// reissuePage is how many records are read at a time.
const reissuePage = 256

// reissue writes again the documents that were created in records set aside.
// Edits of older documents are left out: they build on records that stayed, in
// the name of the incarnation that ended. It returns how many records were
// written, now or before.
func (n *Node) reissue(ctx context.Context, a store.Aside) (done uint64, err error) {
	again := rewriter{n: n, hashes: map[crdt.Hash]crdt.Hash{}}
	for first := a.Kept + 1; first <= a.Kept+a.Records; first += reissuePage {
		page, err := n.group.Store().AsideRecords(a, first, reissuePage)
		if err != nil {
			return done, err
		}
		for i, enc := range page {
			ok, err := again.write(ctx, a, first+uint64(i), enc)
			if err != nil {
				return done, err
			}
			if ok {
				done++
			}
		}
	}
	return done, nil
}

// rewriter writes one chain's records again. Hashes maps the changes that it
// wrote over, by their old hash.
type rewriter struct {
	n      *Node
	hashes map[crdt.Hash]crdt.Hash
}

// write writes one record again and reports whether that could be done.
func (w *rewriter) write(ctx context.Context, a store.Aside, seq uint64, enc []byte) (bool, error) {
	rec, err := crdt.DecodeRecord(enc)
	if err == nil && rec.Kind == crdt.RecordReadings {
		// At their old time: what both copies measured, the later one still decides.
		_, err := w.n.group.AppendReadings(ctx, fmt.Sprintf("reissue:%s:%d:%d", a.Chain, a.No, seq), rec.Time, rec.Body)
		return err == nil, refusedAppend(err)
	}
	if err != nil || rec.Kind != crdt.RecordChange {
		return false, nil //nolint:nilerr // it stays as evidence
	}
	lim := change.DefaultLimits()
	was, err := change.Decode(rec.Body, lim)
	if err != nil {
		return false, nil //nolint:nilerr // likewise
	}
	author, _, err := w.n.group.Actor()
	if err != nil {
		return false, err
	}
	raw, err := change.Reissue(rec.Body, lim, w.actors(was, a.Chain.Author, author), w.hashes)
	if err != nil {
		return false, nil //nolint:nilerr // likewise
	}
	is, err := change.Decode(raw, lim)
	if err != nil {
		return false, nil //nolint:nilerr // likewise
	}
	key := store.DocKey{Stream: a.Chain.Stream, Doc: rec.Doc}
	var base []crdt.Hash
	if len(was.Deps) > 0 {
		h, err := w.n.group.Store().Changes(key)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return false, err
		}
		if h != nil {
			base = h.Heads
		}
	}
	_, err = w.n.group.Append(ctx, fmt.Sprintf("reissue:%s:%d:%d", a.Chain, a.No, seq), []store.Item{{
		Stream: key.Stream, Doc: key.Doc, Base: base, Time: rec.Time, Change: raw,
	}})
	if errors.Is(err, store.ErrMoved) || errors.Is(err, store.ErrBadChange) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	w.hashes[was.Hash] = is.Hash
	return true, nil
}

// refusedAppend drops an error that says that a record can never be written.
func refusedAppend(err error) error {
	if errors.Is(err, store.ErrBadChange) {
		return nil
	}
	return err
}

// actors maps the actors of a change that are of the ended incarnation to those
// of the present one, with the same random half.
func (w *rewriter) actors(c *change.Change, from, to crdt.Author) map[crdt.Actor]crdt.Actor {
	out := map[crdt.Actor]crdt.Actor{}
	add := func(a crdt.Actor) {
		if from.Owns(a) {
			out[a] = crdt.NewActor(to, [8]byte(a[8:]))
		}
	}
	add(c.Actor)
	for _, o := range c.Uses {
		add(o.Actor)
	}
	return out
}
