package store

import (
	"bytes"
	"errors"
	"hash/maphash"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// The sizes of the filters. With 12 bits and 6 probes a key, each filter lets about
// one in 200 of the keys through that are not there.
const (
	presenceBits   = 12
	presenceProbes = 6
	presenceBlock  = 512     // bits
	presenceFirst  = 1 << 14 // keys of the first filter; each next one holds twice as many
	// presenceChunk is how many keys are read at once, when the store is opened.
	presenceChunk = 1 << 12
)

// presence tells from memory that there is nothing under a key of a document or
// of an outcome. Apply asks for both with nearly every command, and nearly always
// they are not there, which costs Pebble a search of its memtables and of the
// filters of several tables. It is a scalable Bloom filter (Almeida and others,
// Information Processing Letters 101, 2007) of blocked ones (Putze and others, ACM
// Journal of Experimental Algorithmics 14, 2009): all bits of a key are in one
// line of the processor's cache. It is safe for concurrent use.
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
type layer [][presenceBlock / 64]uint64

// block returns the part of the filter that a key's bits are in.
func (b layer) block(hash uint64) *[presenceBlock / 64]uint64 {
	return &b[(hash>>32)*uint64(len(b))>>32]
}

// bits are a key's places in its block, each in ten bits of the result.
func bits(hash uint64) uint64 { return hash * 0x9e3779b97f4a7c15 }

// bit returns the next of a key's places, and the rest.
func bit(bits uint64) (word int, mask uint64, rest uint64) {
	at := bits % presenceBlock
	return int(at / 64), 1 << (at % 64), bits >> 10
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
		p.layers = append(p.layers, make(layer, p.room*presenceBits/presenceBlock))
	}
	p.room--
	hash := maphash.Bytes(p.seed, key)
	b, rest := p.layers[len(p.layers)-1].block(hash), bits(hash)
	for range presenceProbes {
		var word int
		var mask uint64
		word, mask, rest = bit(rest)
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
	block, rest := b.block(hash), bits(hash)
	for range presenceProbes {
		var word int
		var mask uint64
		if word, mask, rest = bit(rest); block[word]&mask == 0 {
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
