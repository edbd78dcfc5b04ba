package replication

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
)

// fsm adapts the store to Raft. It holds no state of its own. A storage error
// is fatal: what Raft committed must be in the store, or the node may not run.
type fsm struct {
	store *store.Store
	site  tiers.SiteID
	codec codec
	clock *crdt.Clock // moved past what is applied; no part of the state
	fatal func(error)
	// format is the newest that this node reads.
	format   uint32
	compared atomic.Pointer[Compared]

	mu    sync.Mutex // held to change the store: by Raft's entries, or by a repair
	index uint64     // of the entry that is being applied
	room  []byte     // for an entry that was packed; of its commands nothing stays in it
	// making is held to make a snapshot of the store from its first step to its
	// last, or to exchange the store and every snapshot of it. It comes before mu.
	making sync.Mutex
}

var _ raft.BatchingFSM = (*fsm)(nil)

// Apply implements [raft.FSM].
func (f *fsm) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch implements [raft.BatchingFSM]: one store commit a batch. Entries
// that the store reflects already are skipped: in a replay after a crash, and
// after a repair from a node that was ahead. Those have no outcome, which a
// writer who waits for one takes as unknown.
func (f *fsm) ApplyBatch(logs []*raft.Log) []any {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.applyHeld(logs)
}

// applyHeld applies entries; mu is held.
func (f *fsm) applyHeld(logs []*raft.Log) []any {
	out := make([]any, len(logs)) // a []outcome for each entry that holds commands
	applied := f.store.AppliedIndex()
	tx := f.store.Begin()
	last := applied
	for i, l := range logs {
		if l.Index <= applied {
			continue // nobody waits for it
		}
		last, f.index = l.Index, l.Index
		if l.Type != raft.LogCommand {
			continue
		}
		done, err := f.entry(tx, l.Data)
		if errors.Is(err, errAlone) {
			if tx, err = f.renew(tx, l.Index-1); err == nil {
				done, err = f.entry(tx, l.Data)
			}
		}
		if err == nil && tx.Evicted() {
			tx, err = f.renew(tx, l.Index)
		}
		if err != nil {
			f.fatal(fmt.Errorf("apply entry %d: %w", l.Index, err))
			return out
		}
		out[i] = done
	}
	if last == applied {
		if err := tx.Discard(); err != nil {
			f.fatal(err)
		}
		return out
	}
	if err := tx.Commit(last); err != nil {
		f.fatal(err)
	}
	return out
}

// entry runs the commands of one log entry, each on its own, and returns their
// outcomes. An entry that cannot be taken apart is fatal: this node would go on with
// another state than the others.
func (f *fsm) entry(tx *store.Tx, data []byte) ([]outcome, error) {
	commands, room, err := f.codec.commands(data, f.room)
	f.room = room
	if err != nil {
		return nil, err
	}
	done := make([]outcome, len(commands))
	for i, c := range commands {
		if done[i], err = f.apply(tx, c, len(commands) > 1); err != nil {
			return nil, err
		}
	}
	return done, nil
}

// errAlone asks for a Tx of its own.
var errAlone = errors.New("replication: not alone")

// renew commits a Tx as of an entry and begins the next.
func (f *fsm) renew(tx *store.Tx, index uint64) (*store.Tx, error) {
	if err := tx.Commit(index); err != nil {
		return tx, err
	}
	return f.store.Begin(), nil
}

// apply runs one command; shared says that there are others in its entry. A
// rejection is an outcome; an error is fatal.
func (f *fsm) apply(tx *store.Tx, data []byte, shared bool) (outcome, error) {
	cmd, err := f.codec.decodeCommand(data)
	if err != nil {
		return outcome{}, err
	}
	if err = cmd.check(); err == nil && shared && cmd.alone() {
		// Never by what else the Tx holds: that is up to Raft's batches, which
		// differ between nodes.
		err = fmt.Errorf("%w: a command that must be alone shares its entry", ErrBadCommand)
	}
	if err != nil {
		return outcome{Code: rejectionCode(err), Reason: err.Error()}, nil
	}
	if cmd.Key != "" {
		if o, found, err := f.earlier(tx, cmd.Key); found || err != nil {
			return o, err
		}
	}
	o, err := f.run(tx, cmd)
	if code := rejectionCode(err); code != 0 && !errors.Is(err, store.ErrCorrupt) {
		return outcome{Code: code, Reason: err.Error()}, nil
	}
	if err != nil || cmd.Key == "" {
		return o, err
	}
	b, err := f.codec.enc.Marshal(o)
	if err != nil {
		return outcome{}, fmt.Errorf("encode outcome: %w", err)
	}
	return o, tx.SetOutcome(cmd.Key, b)
}

// earlier returns the outcome of an earlier command with the same key.
func (f *fsm) earlier(tx *store.Tx, key string) (outcome, bool, error) {
	b, err := tx.Outcome(key)
	if b == nil || err != nil {
		return outcome{}, false, err
	}
	var o outcome
	if err := f.codec.dec.Unmarshal(b, &o); err != nil {
		return outcome{}, false, fmt.Errorf("%w: outcome of %q: %w", store.ErrCorrupt, key, err)
	}
	o.Replayed = true
	return o, true, nil
}

func (f *fsm) run(tx *store.Tx, cmd command) (outcome, error) {
	switch {
	case cmd.Ingest != nil:
		n, err := tx.Ingest(cmd.Ingest.storeRange())
		if err == nil && n > 0 {
			f.observe(cmd.Ingest.Records[len(cmd.Ingest.Records)-1])
		}
		return outcome{New: n}, err
	case cmd.Incarnation != nil:
		if tx.Incarnation() != cmd.Incarnation.From {
			return outcome{}, nil
		}
		return outcome{}, tx.SetIncarnation(cmd.Incarnation.From + 1)
	case cmd.Aside != nil:
		return f.runAside(tx, cmd.Aside.evict())
	case cmd.Readings != nil:
		return f.runReadings(tx, cmd.Readings)
	case cmd.Thin != nil:
		if !tx.Empty() {
			return outcome{}, errAlone
		}
		n, err := tx.Thin(cmd.Thin.thin())
		return outcome{New: n}, err
	case cmd.Format != nil:
		return outcome{}, f.runFormat(tx, cmd.Format.To)
	case cmd.Compare != nil:
		return outcome{}, f.runCompare(tx)
	case cmd.Claim != nil:
		var c store.Claim
		var err error
		if cmd.Claim.Holder == "" {
			c, err = tx.Release(cmd.Claim.Resource, cmd.Claim.Epoch)
		} else {
			c, err = tx.Grant(cmd.Claim.Resource, cmd.Claim.Holder, cmd.Claim.Force)
		}
		return outcome{Epoch: c.Epoch}, err
	default:
		return f.runAppend(tx, cmd.Append)
	}
}

// runAside sets records aside. An incarnation that was cloned is not used again:
// the next one is above every one that is known of the site.
func (f *fsm) runAside(tx *store.Tx, e store.Evict) (outcome, error) {
	if !tx.Empty() {
		return outcome{}, errAlone
	}
	n, err := tx.SetAside(e)
	if err == nil && e.Chain.Author == (crdt.Author{Site: f.site, Incarnation: tx.Incarnation()}) {
		next := tx.Incarnation()
		for _, s := range f.store.Streams() {
			for a := range f.store.Vector(s) {
				if a.Site == f.site {
					next = max(next, a.Incarnation)
				}
			}
		}
		err = tx.SetIncarnation(next + 1)
	}
	return outcome{New: n}, err
}

func (f *fsm) runAppend(tx *store.Tx, in []appendItem) (outcome, error) {
	author := crdt.Author{Site: f.site, Incarnation: tx.Incarnation()}
	items := make([]store.Item, len(in))
	for i, it := range in {
		items[i] = store.Item{
			Stream: tiers.StreamID{Site: it.Site, Class: it.Class}, Doc: it.Doc,
			Base: it.Base, Time: crdt.HybridTime(it.Time), Change: it.Change,
		}
		if err := errors.Join(items[i].Stream.Validate(), it.Doc.Validate()); err != nil {
			return outcome{}, fmt.Errorf("%w: %w", ErrBadCommand, err)
		}
	}
	at, err := tx.Append(author, items)
	if err != nil {
		return outcome{}, err
	}
	o := outcome{Placed: make([]placed, len(at))}
	for i, p := range at {
		f.clock.Observe(items[i].Time)
		o.Placed[i] = placed{
			Site: in[i].Site, Class: in[i].Class, Doc: in[i].Doc,
			Incarnation: p.Chain.Author.Incarnation, Seq: p.Seq,
		}
	}
	return o, nil
}

// observe moves the clock past a record's time.
func (f *fsm) observe(record []byte) {
	if rec, err := crdt.DecodeRecord(record); err == nil {
		f.clock.Observe(rec.Time)
	}
}

// Snapshot implements [raft.FSM]. The store already is the state.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) { return checkpointSnapshot{f}, nil }

// Restore implements [raft.FSM]. Raft calls it on a node that is too far behind
// its leader; the snapshot is on this node's disk by then, verified.
func (f *fsm) Restore(r io.ReadCloser) error {
	if w, ok := r.(raft.ReadCloserWrapper); ok {
		r = w.WrappedReadCloser()
	}
	s, ok := r.(*snapshotReader)
	if !ok {
		return errors.Join(fmt.Errorf("replication: restore from a %T", r), r.Close())
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.store.Replace(s.dir)
	if err == nil {
		err = readable(f.store, f.format)
	}
	if err != nil {
		f.fatal(err) // the store may be gone
	}
	return errors.Join(err, r.Close())
}

// checkpointSnapshot is the store at some index, not before that at which it
// was made: entries that it reflects already are skipped when they are applied.
type checkpointSnapshot struct{ f *fsm }

// Persist implements [raft.FSMSnapshot].
func (s checkpointSnapshot) Persist(to raft.SnapshotSink) error {
	k, ok := to.(*sink)
	if !ok {
		return errors.Join(fmt.Errorf("replication: persist to a %T", to), to.Cancel())
	}
	s.f.making.Lock()
	defer s.f.making.Unlock()
	// The last entries may have been Raft's own, which no command shows.
	s.f.mu.Lock()
	err := s.f.store.Advance(k.m.Index)
	s.f.mu.Unlock()
	if err == nil {
		err = s.f.store.Checkpoint(k.checkpoint())
	}
	if err != nil {
		return errors.Join(err, to.Cancel())
	}
	return to.Close()
}

// Release implements [raft.FSMSnapshot].
func (checkpointSnapshot) Release() {}
