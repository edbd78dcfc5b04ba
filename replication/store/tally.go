package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// tallies are the counters of the views' [crdt.Count]: how many documents of each
// site's streams have a view that counts in a cell. They stand on disk, one key a
// cell, written in the batch of the views that change them; and in memory, so that
// a question costs no read of the disk. What a view counts in is stored with it, so
// that the next one takes it away again.
//
// The lock is held for reading and writing maps alone. It comes after that of the
// marks, under which all writers are.
type tallies struct {
	mu    sync.RWMutex
	cubes map[string]*cube
}

// cube is one kind of counters.
type cube struct {
	sites map[tiers.SiteID]map[string]int64
	// all are the sums over all sites.
	all map[string]int64
}

// tallyCell is one counter.
type tallyCell struct {
	cube string
	site tiers.SiteID
	cell string
}

func (c tallyCell) key() []byte {
	b := append([]byte{tableTally}, c.cube...)
	b = append(append(append(b, 0), c.site...), 0)
	return append(b, c.cell...)
}

func (t *tallies) get(c tallyCell) int64 {
	if x := t.cubes[c.cube]; x != nil {
		return x.sites[c.site][c.cell]
	}
	return 0
}

// add changes a counter in memory; one that is zero goes.
func (t *tallies) add(c tallyCell, n int64) {
	x := t.cubes[c.cube]
	if x == nil {
		x = &cube{map[tiers.SiteID]map[string]int64{}, map[string]int64{}}
		t.cubes[c.cube] = x
	}
	at := x.sites[c.site]
	if at == nil {
		at = map[string]int64{}
		x.sites[c.site] = at
	}
	if at[c.cell] += n; at[c.cell] == 0 {
		if delete(at, c.cell); len(at) == 0 {
			delete(x.sites, c.site)
		}
	}
	if x.all[c.cell] += n; x.all[c.cell] == 0 {
		delete(x.all, c.cell)
	}
}

// tallyDelta is what a batch of views changes.
type tallyDelta map[tallyCell]int64

// count adds a view's counts, or takes them away.
func (d tallyDelta) count(site tiers.SiteID, counts []crdt.Count, n int64) {
	for _, c := range counts {
		cell := tallyCell{c.Cube, site, c.Cell}
		if d[cell] += n; d[cell] == 0 {
			delete(d, cell)
		}
	}
}

// put adds the new values to the batch. The caller holds the marks' lock.
func (t *tallies) put(b *pebble.Batch, d tallyDelta) error {
	for c, n := range d {
		var err error
		if v := t.get(c) + n; v <= 0 {
			err = b.Delete(c.key(), nil)
		} else {
			err = b.Set(c.key(), binary.AppendUvarint(nil, uint64(v)), nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// show makes what was committed visible.
func (t *tallies) show(d tallyDelta) {
	if len(d) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for c, n := range d {
		t.add(c, n)
	}
}

// readTallies reads the counters of a database that was just opened.
func (s *Store) readTallies() error {
	t := &tallies{cubes: map[string]*cube{}}
	err := s.scan([]byte{tableTally}, func(key, value []byte) error {
		k, v := decoder{b: key[1:]}, decoder{b: value}
		c := tallyCell{cube: k.terminated(), site: tiers.SiteID(k.terminated())}
		c.cell = string(k.b)
		n := v.uvarint()
		if k.bad || v.bad {
			return fmt.Errorf("%w: counter", ErrCorrupt)
		}
		t.add(c, int64(n))
		return nil
	})
	s.tallies.mu.Lock()
	defer s.tallies.mu.Unlock()
	s.tallies.cubes = t.cubes
	return err
}

// Tally returns the counters of a cube, summed over all sites; the caller owns
// them. Cells that count nothing are left out.
func (s *Store) Tally(cubeName string) map[string]int64 {
	s.tallies.mu.RLock()
	defer s.tallies.mu.RUnlock()
	if x := s.tallies.cubes[cubeName]; x != nil {
		return maps.Clone(x.all)
	}
	return map[string]int64{}
}

// EachTally calls f with every counter of a cube that is not zero, of the streams
// of the sites that are given, or of all when nil; in no order. f must be quick: it
// holds up the writers of views.
func (s *Store) EachTally(cubeName string, sites []tiers.SiteID, f func(site tiers.SiteID, cell string, n int64)) {
	s.tallies.mu.RLock()
	defer s.tallies.mu.RUnlock()
	x := s.tallies.cubes[cubeName]
	if x == nil {
		return
	}
	if sites == nil {
		for site, cells := range x.sites {
			for cell, n := range cells {
				f(site, cell, n)
			}
		}
		return
	}
	for _, site := range sites {
		for cell, n := range x.sites[site] {
			f(site, cell, n)
		}
	}
}

// TallySites lists the sites of whose streams a cube counts something, in order.
func (s *Store) TallySites(cubeName string) []tiers.SiteID {
	s.tallies.mu.RLock()
	defer s.tallies.mu.RUnlock()
	if x := s.tallies.cubes[cubeName]; x != nil {
		return slices.Sorted(maps.Keys(x.sites))
	}
	return nil
}

// countPrefix marks the entries of a stored view that are counts: no index bears
// such a name.
const countPrefix = "\x01"

// splitCounts takes the counts out of what a stored view lists.
func splitCounts(v *crdt.View) {
	i := slices.IndexFunc(v.Index, func(e crdt.IndexEntry) bool { return strings.HasPrefix(e.Name, countPrefix) })
	if i < 0 {
		return
	}
	for _, e := range v.Index[i:] {
		v.Counts = append(v.Counts, crdt.Count{Cube: strings.TrimPrefix(e.Name, countPrefix), Cell: e.Value})
	}
	v.Index = v.Index[:i:i]
}

// A recount makes every view once more, so that it counts by the rules that hold:
// in a store of an earlier version, or of a build whose rules were others. How far
// it came is on disk; views that are made meanwhile count by the new rules at once,
// so the counters grow to what they should be.
const (
	metaCounting = "counting" // the rules by which all views count, or are to
	metaRecount  = "recount"  // the last document that was recounted; missing when all are
)

// Recount asks for a recount unless all views count by these rules.
func (s *Store) Recount(rules string) error {
	if err := s.usage.enter(); err != nil {
		return err
	}
	defer s.usage.leave()
	have, err := s.get(keyMeta(metaCounting))
	if errors.Is(err, ErrNotFound) {
		err = nil
	}
	if err != nil || string(have) == rules {
		return err
	}
	b := s.db.NewBatch()
	defer func() { _ = b.Close() }()
	_ = b.Set(keyMeta(metaCounting), []byte(rules), nil)
	_ = b.Set(keyMeta(metaRecount), []byte{tableDoc}, nil)
	if err := b.Commit(pebble.NoSync); err != nil {
		return fmt.Errorf("recount: %w", err)
	}
	return nil
}

// ToRecount returns the next documents of a recount under way, at most limit; none
// when there is none.
func (s *Store) ToRecount(limit int) ([]DocKey, error) {
	if err := s.usage.enter(); err != nil {
		return nil, err
	}
	defer s.usage.leave()
	from, err := s.get(keyMeta(metaRecount))
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	docs, err := s.documentsPage(from, limit)
	if err != nil || len(docs) > 0 {
		return docs, err
	}
	return nil, s.db.Delete(keyMeta(metaRecount), pebble.NoSync)
}

// Recounted says that documents that [Store.ToRecount] gave have their views.
func (s *Store) Recounted(docs []DocKey) error {
	if err := s.usage.enter(); err != nil {
		return err
	}
	defer s.usage.leave()
	if len(docs) == 0 {
		return nil
	}
	next := append(keyDoc(tableDoc, docs[len(docs)-1]), 0)
	if err := s.db.Set(keyMeta(metaRecount), next, pebble.NoSync); err != nil {
		return fmt.Errorf("recount: %w", err)
	}
	return nil
}

// Recounting reports whether a recount is under way: until it is done, counters
// leave out what it has not come to.
func (s *Store) Recounting() (bool, error) {
	if err := s.usage.enter(); err != nil {
		return false, err
	}
	defer s.usage.leave()
	_, err := s.get(keyMeta(metaRecount))
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}
