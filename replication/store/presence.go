package store

import (
	"bytes"
	"errors"
	"hash/maphash"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// The sizes of the filters: 12 bits and 6 probes a key let about one key in 300
// through that is not there.
const (
	presenceBits   = 12
	presenceProbes = 6
	presenceFirst  = 1 << 14 // keys of the first filter; each next one holds twice as many
	// presenceChunk is how many keys are read at once, when the store is opened.
	presenceChunk = 1 << 12
)

// presence tells from memory that there is nothing under a key of a document or
// of an outcome. Apply asks for both with nearly every command, and nearly always
// they are not there, which costs Pebble a search of its memtables and of the
// filters of several tables. It is a scalable Bloom filter (Almeida and others,
// Information Processing Letters 101, 2007). It is safe for concurrent use.
type presence struct {
	readers sync.WaitGroup // who read what is stored already

	mu       sync.Mutex // guards the fields below
	seed     maphash.Seed
	layers   []layer
	room     int  // keys that fit the last layer
	complete bool // holds every key that is stored
	database int  // counts how often it began anew
}

// layer is one filter.
type layer []uint64

func (b layer) bit(hash uint64, probe uint64) (word uint64, mask uint64) {
	at := (hash + probe*(hash>>32|1)) % (uint64(len(b)) * 64)
	return at / 64, 1 << (at % 64)
}

// covers says which keys presence knows of.
func covers(key []byte) bool { return key[0] == tableDoc || key[0] == tableKey }

// reset forgets everything and returns which database this is.
func (p *presence) reset() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seed, p.layers, p.room, p.complete = maphash.MakeSeed(), nil, 0, false
	p.database++
	return p.database
}

// add notes a key.
func (p *presence) add(key []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.put(key)
}

func (p *presence) put(key []byte) {
	if p.room == 0 {
		p.room = presenceFirst << len(p.layers)
		p.layers = append(p.layers, make(layer, p.room*presenceBits/64))
	}
	p.room--
	b, hash := p.layers[len(p.layers)-1], maphash.Bytes(p.seed, key)
	for i := range uint64(presenceProbes) {
		word, mask := b.bit(hash, i)
		b[word] |= mask
	}
}

// take notes keys that were read of a database, the last ones perhaps, and reports
// whether it is still in its place.
func (p *presence) take(database int, keys [][]byte, last bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.database != database {
		return false
	}
	for _, key := range keys {
		p.put(key)
	}
	p.complete = last
	return true
}

// absent reports that nothing was ever stored under a key; false means that it
// has to be looked up.
func (p *presence) absent(key []byte) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.complete {
		return false
	}
	hash := maphash.Bytes(p.seed, key)
	for _, b := range p.layers {
		if b.holds(hash) {
			return false
		}
	}
	return true
}

func (b layer) holds(hash uint64) bool {
	for i := range uint64(presenceProbes) {
		if word, mask := b.bit(hash, i); b[word]&mask == 0 {
			return false
		}
	}
	return true
}

// note adds the keys of a batch that is about to be committed.
func (p *presence) note(b *pebble.Batch) error {
	r := b.Reader()
	for {
		kind, key, _, ok, err := r.Next()
		if !ok || err != nil {
			return err
		}
		if kind == pebble.InternalKeyKindSet && covers(key) {
			p.add(key)
		}
	}
}

// readPresence takes in what is stored already: a small store's at once, the rest
// of a large one's beside what goes on. Until then every key is looked up, and for
// good if it cannot be read.
func (s *Store) readPresence() {
	database := s.presence.reset()
	if s.cfg.Salvaging {
		return
	}
	next := s.readPresenceChunk(database, []byte{tableDoc})
	if next == nil {
		return
	}
	s.presence.readers.Go(func() { // ends with the keys, or with the store
		for next != nil && s.usage.enter() == nil {
			next = s.readPresenceChunk(database, next)
			s.usage.leave()
		}
	})
}

// readPresenceChunk takes in some keys from one on, and returns where to go on, or
// nil when there are no more, when they cannot be read, or when the database was
// replaced.
func (s *Store) readPresenceChunk(database int, from []byte) []byte {
	keys, next, err := s.presenceKeys(from)
	if err != nil {
		s.cfg.Logger.Warn("documents and outcomes are looked up on disk", "err", err)
		return nil
	}
	if !s.presence.take(database, keys, next == nil) {
		return nil
	}
	return next
}

// presenceKeys reads some keys from one on, and the one behind them if there is one.
func (s *Store) presenceKeys(from []byte) (keys [][]byte, next []byte, err error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: []byte{tableKey + 1}})
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, it.Error(), it.Close()) }()
	for ok := it.First(); ok; {
		key := it.Key()
		if !covers(key) {
			ok = it.SeekGE([]byte{tableKey})
			continue
		}
		key = bytes.Clone(key)
		if len(keys) == presenceChunk {
			return keys, key, nil
		}
		keys = append(keys, key)
		ok = it.Next()
	}
	return keys, nil, nil
}
