package store

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// arrivalSpanMS is how far apart, in milliseconds, ranges of one chain may have come
// in that share an entry: what an after-action review can be wrong by.
const arrivalSpanMS = 1000

// Arrival says when a run of a chain's records came in: none before From, all by To.
type Arrival struct {
	// First and Last are the run's sequence numbers.
	First, Last uint64
	From, To    crdt.HybridTime
}

// arrive notes when a range came in. Times of one chain never go back, whatever the
// clocks of the nodes that led the site said: what came later was known later.
func (t *Tx) arrive(c crdt.ChainID, first, last uint64, at crdt.HybridTime) error {
	if at == 0 {
		return nil // proposed by an earlier build
	}
	a, err := t.lastArrival(c)
	if err != nil {
		return err
	}
	at = max(at, a.To)
	if a.First == 0 || a.Last+1 != first || at.Millis()-a.From.Millis() >= arrivalSpanMS {
		a = Arrival{First: first, From: at}
	}
	a.Last, a.To = last, at
	t.arrivals[c] = a
	return t.putArrival(c, a)
}

func (t *Tx) putArrival(c crdt.ChainID, a Arrival) error {
	v := binary.AppendUvarint(nil, a.Last)
	v = binary.BigEndian.AppendUint64(v, uint64(a.From))
	v = binary.BigEndian.AppendUint64(v, uint64(a.To))
	return t.batch.Set(keySeq(tableArrival, c, a.First), v, nil)
}

// lastArrival returns a chain's last entry; the zero value when there is none.
func (t *Tx) lastArrival(c crdt.ChainID) (Arrival, error) {
	if a, ok := t.arrivals[c]; ok {
		return a, nil
	}
	t.s.mu.RLock()
	a, ok := t.s.arrivals[c]
	t.s.mu.RUnlock()
	if ok {
		return a, nil
	}
	return arrivalBefore(t.s.db, c, 1<<63)
}

// forgetArrivals drops what is noted of records that are set aside.
func (t *Tx) forgetArrivals(c crdt.ChainID, keep uint64) error {
	a, err := arrivalBefore(t.s.db, c, keep+1)
	if err != nil {
		return err
	}
	if a.Last > keep {
		a.Last = keep
		if err := t.putArrival(c, a); err != nil {
			return err
		}
	}
	t.arrivals[c] = a
	return t.batch.DeleteRange(keySeq(tableArrival, c, keep+1), prefixEnd(keyChain(tableArrival, c)), nil)
}

// arrivalBefore returns the last entry of a chain that begins before seq; the zero
// value when there is none.
func arrivalBefore(r pebble.Reader, c crdt.ChainID, seq uint64) (a Arrival, err error) {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: keySeq(tableArrival, c, 0), UpperBound: keySeq(tableArrival, c, seq)})
	if err != nil {
		return a, fmt.Errorf("read arrivals of %s: %w", c, err)
	}
	if it.Last() {
		a, err = decodeArrival(c, it.Key(), it.Value())
	}
	return a, errors.Join(err, it.Error(), it.Close())
}

func decodeArrival(c crdt.ChainID, key, value []byte) (Arrival, error) {
	k, v := decoder{b: key[len(key)-8:]}, decoder{b: value}
	a := Arrival{First: k.u64(), Last: v.uvarint(), From: crdt.HybridTime(v.u64()), To: crdt.HybridTime(v.u64())}
	if k.bad || v.bad || a.Last < a.First {
		return Arrival{}, fmt.Errorf("%w: arrival in %s", ErrCorrupt, c)
	}
	return a, nil
}

// ArrivalOf returns when a record of another author's came in; false when nobody
// noted it, as before version 3 of the keyspace, or of records that the site wrote.
func (s *Store) ArrivalOf(c crdt.ChainID, seq uint64) (Arrival, bool, error) {
	if err := s.usage.enter(); err != nil {
		return Arrival{}, false, err
	}
	defer s.usage.leave()
	a, err := arrivalBefore(s.db, c, seq+1)
	return a, a.First != 0 && a.Last >= seq, err
}

// Held is how much of a chain a site held at a time.
type Held struct {
	Chain crdt.ChainID
	// Then is how many records it held, Now how many it holds.
	Then, Now uint64
	// Unknown are those of which nobody noted when they came in.
	Unknown uint64
}

// HeldAt returns how much of each chain the site held at a time, in chain order: of
// its own chains what it had written, of others what had come in.
func (s *Store) HeldAt(at crdt.HybridTime) ([]Held, error) {
	if err := s.usage.enter(); err != nil {
		return nil, err
	}
	defer s.usage.leave()
	var out []Held
	for _, stream := range s.Streams() {
		v := s.Vector(stream)
		for _, a := range v.Authors() {
			h := Held{Chain: crdt.ChainID{Stream: stream, Author: a}, Now: v[a].Seq}
			var err error
			if a.Site == s.cfg.Site {
				h.Then, err = s.writtenBy(h.Chain, h.Now, at)
			} else {
				err = s.arrivedBy(&h, at)
			}
			if err != nil {
				return nil, err
			}
			out = append(out, h)
		}
	}
	return out, nil
}

// writtenBy returns how many records of an own chain were written by a time: by
// bisection, since an author's times rise along its chain, but for writers that the
// log put in another order than their clocks, milliseconds apart.
func (s *Store) writtenBy(c crdt.ChainID, last uint64, at crdt.HybridTime) (uint64, error) {
	low, high := uint64(0), last // low is by then, high+1 is not
	for low < high {
		mid := low + (high-low+1)/2
		when, err := s.recordTime(c, mid)
		if err != nil {
			return 0, err
		}
		if when <= at {
			low = mid
		} else {
			high = mid - 1
		}
	}
	return low, nil
}

// recordTime returns the hybrid time of a record.
func (s *Store) recordTime(c crdt.ChainID, seq uint64) (crdt.HybridTime, error) {
	_, enc, err := s.recordAt(c, seq)
	if err != nil {
		return 0, err
	}
	rec, err := crdt.DecodeRecord(enc)
	if err != nil {
		return 0, fmt.Errorf("%w: record %d of %s: %w", ErrCorrupt, seq, c, err)
	}
	return rec.Time, nil
}

// arrivedBy adds up the runs of a chain that had come in by a time.
func (s *Store) arrivedBy(h *Held, at crdt.HybridTime) error {
	prefix := keyChain(tableArrival, h.Chain)
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: prefixEnd(prefix)})
	if err != nil {
		return fmt.Errorf("read arrivals of %s: %w", h.Chain, err)
	}
	noted := uint64(0)
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		var a Arrival
		a, err = decodeArrival(h.Chain, it.Key(), it.Value())
		n := min(a.Last, h.Now) - min(a.First-1, h.Now)
		if noted += n; a.To <= at {
			h.Then += n
		}
	}
	h.Unknown = h.Now - min(noted, h.Now)
	return errors.Join(err, it.Error(), it.Close())
}

// Newest returns, of each site, the hybrid time of the newest record by it that the
// store holds. It costs a read of each chain that nobody asked for since the store
// was opened, and that did not grow since.
func (s *Store) Newest() (map[tiers.SiteID]crdt.HybridTime, error) {
	if err := s.usage.enter(); err != nil {
		return nil, err
	}
	defer s.usage.leave()
	out := map[tiers.SiteID]crdt.HybridTime{}
	var unread []crdt.ChainID
	s.mu.RLock()
	for stream, authors := range s.chains {
		for a, st := range authors {
			if st.newest == 0 {
				unread = append(unread, crdt.ChainID{Stream: stream, Author: a})
			}
			out[a.Site] = max(out[a.Site], st.newest)
		}
	}
	s.mu.RUnlock()
	for _, c := range unread {
		st := s.chain(c)
		when, err := s.recordTime(c, st.head.Seq)
		if errors.Is(err, ErrNotFound) {
			continue // it was set aside
		}
		if err != nil {
			return nil, err
		}
		out[c.Author.Site] = max(out[c.Author.Site], when)
		s.mu.Lock()
		if now, ok := s.chains[c.Stream][c.Author]; ok && now.head == st.head {
			now.newest = when
			s.chains[c.Stream][c.Author] = now
		}
		s.mu.Unlock()
	}
	return out, nil
}
