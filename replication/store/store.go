package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// formatVersion is the keyspace version that this package writes; it reads the one
// before, and makes this one of it.
const formatVersion = 3

// FS is a file system.
type FS = vfs.FS

// Config says where the store is and whose it is.
type Config struct {
	// Dir is the directory, created when missing.
	Dir string
	// FS is the file system; nil means the operating system's.
	FS FS
	// Federation and Site are stamped into a new directory and must match an
	// existing one.
	Federation string
	Site       tiers.SiteID
	// CacheBytes bounds the blocks of tables that are kept in memory; zero means
	// 32 MiB. Memtables come on top.
	CacheBytes int64
	// MemTableBytes bounds one memtable; zero means 32 MiB.
	MemTableBytes uint64
	// Salvaging is for a copy of a damaged store that is read and closed again: its
	// tables are not compacted, which would stumble over the damage.
	Salvaging bool
	// Fatal is called when the disk can no longer be trusted; it must end the
	// process. Nil panics.
	Fatal  func(error)
	Logger *slog.Logger
}

// l0Flushes is how many flushes wait for a compaction; writes wait for it when there
// are three times as many.
const l0Flushes = 8

func (c Config) withDefaults() Config {
	if c.Fatal == nil {
		c.Fatal = func(err error) { panic(err) } //nolint:forbidigo // nothing may go on over a broken disk
	}
	if c.FS == nil {
		c.FS = vfs.Default
	}
	if c.CacheBytes == 0 {
		c.CacheBytes = 32 << 20
	}
	if c.MemTableBytes == 0 {
		c.MemTableBytes = 32 << 20
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// chainState is the end of a chain and the size of its records so far.
type chainState struct {
	head  crdt.Head
	bytes uint64
	// newest is the time of the last record; zero while nobody has read it. It is not
	// on disk.
	newest crdt.HybridTime
}

// Store is an open site store. See the package comment for its concurrency.
type Store struct {
	db     *pebble.DB
	usage  *usage
	cfg    Config
	ending ending

	signals
	viewState
	rot      rot
	presence presence

	mu      sync.RWMutex // guards the fields below
	chains  map[tiers.StreamID]map[crdt.Author]chainState
	applied uint64
	numbers
	counts   Counts
	grown    map[crdt.ChainID]crdt.Head // since the last TakeGrown
	arrivals map[crdt.ChainID]Arrival   // the last of each chain, of those that came in since the store was opened
}

// numbers are what a site counts up, and its nodes agree on.
type numbers struct {
	incarnation uint32
	siteFormat  uint32 // zero while none was agreed on
}

// signals wake those who wait for news: each has room for one.
type signals struct {
	changed chan struct{} // chains grew
	dirty   chan struct{} // views fell behind
}

// viewState is what the store keeps in memory of the views.
type viewState struct {
	marks   marks
	queue   dirtyQueue
	tallies tallies
}

// ending is how the store came to its end.
type ending struct {
	once sync.Once
	err  error
}

// Counts are the sizes of the store.
type Counts struct {
	// Records is the number of records in all chains.
	Records uint64
	// Dirty is the number of documents whose view is behind.
	Dirty uint64
	// Refused is the number of records whose change can never apply.
	Refused uint64
}

// Open opens or creates the store. The error wraps [ErrForeign], [ErrLocked]
// or [ErrFormat] where one of these is the cause. The caller must Close it.
func Open(cfg Config) (*Store, error) {
	cfg = cfg.withDefaults()
	s := &Store{
		cfg: cfg, usage: newUsage(), signals: signals{changed: make(chan struct{}, 1), dirty: make(chan struct{}, 1)},
	}
	if err := s.openDB(); err != nil {
		return nil, err
	}
	return s, nil
}

// openDB opens the database and reads what is kept in memory.
func (s *Store) openDB() error {
	cfg := s.cfg
	// Pebble takes the memory of its memtables, one that is written and one that
	// is flushed, out of the cache.
	cache := pebble.NewCache(cfg.CacheBytes + 2*int64(cfg.MemTableBytes))
	defer cache.Unref()
	opts := &pebble.Options{
		FS: cfg.FS, Cache: cache, DisableWAL: true, MemTableSize: cfg.MemTableBytes,
		FormatMajorVersion: pebble.FormatNewest, Logger: pebbleLogger{cfg.Logger, cfg.Fatal}, EventListener: s.listener(),
	}
	// Pebble's own scheduler looks ten times a second whether more compactions may
	// run at once than did before. Here it is always one, whose end starts the next.
	opts.Experimental.CompactionScheduler = pebble.NewConcurrencyLimitSchedulerWithNoPeriodicGrantingForTest()
	// Each compaction rewrites nearly all of a small store: it waits until several
	// memtables were flushed. A read asks the filters of that many more tables.
	// Pebble weighs a flush double for the one, and not for the other.
	opts.L0CompactionThreshold, opts.L0StopWritesThreshold = 2*l0Flushes, 3*l0Flushes
	if cfg.Salvaging {
		opts.DisableAutomaticCompactions, opts.L0StopWritesThreshold = true, 1<<20
	}
	for i := range opts.Levels {
		// Most reads of the write path ask for what is not there.
		opts.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	db, err := pebble.Open(cfg.Dir, opts)
	if err != nil {
		if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) || strings.Contains(err.Error(), "lock held") {
			return fmt.Errorf("%w: %s: stop the other process first", ErrLocked, cfg.Dir)
		}
		return damage("open "+cfg.Dir, err)
	}
	s.db = db
	s.mu.Lock()
	s.chains, s.grown = map[tiers.StreamID]map[crdt.Author]chainState{}, map[crdt.ChainID]crdt.Head{}
	s.counts, s.arrivals = Counts{}, map[crdt.ChainID]Arrival{}
	err = errors.Join(s.stamp(), s.load(), s.readMarks(), s.readTallies())
	if err == nil {
		err = s.makeNames()
	}
	s.counts.Dirty = s.marks.dirty()
	s.mu.Unlock()
	if err != nil {
		s.db = nil
		return errors.Join(err, db.Close())
	}
	s.queue.reset()
	s.readPresence()
	return nil
}

// stamp claims a new directory for its site, or checks whose an old one is.
func (s *Store) stamp() error {
	cfg := s.cfg
	want := map[string]string{"federation": cfg.Federation, "site": string(cfg.Site)}
	format, err := s.get(keyMeta("format"))
	if errors.Is(err, ErrNotFound) {
		b := s.db.NewBatch()
		for name, v := range want {
			_ = b.Set(keyMeta(name), []byte(v), nil)
		}
		_ = b.Set(keyMeta("format"), []byte{formatVersion}, nil)
		_ = b.Set(keyMeta("incarnation"), binary.BigEndian.AppendUint32(nil, 1), nil)
		_ = b.Set(keyMeta("applied"), binary.BigEndian.AppendUint64(nil, 0), nil)
		_ = b.Set(keyMeta(metaNamed), binary.BigEndian.AppendUint64(nil, 0), nil)
		if err := b.Commit(pebble.NoSync); err != nil {
			return fmt.Errorf("stamp store %s: %w", cfg.Dir, err)
		}
		return s.flush()
	}
	if err != nil {
		return err
	}
	if len(format) != 1 || format[0] == 0 || format[0] > formatVersion {
		return fmt.Errorf("%w: %s holds version %v, this build reads up to %d", ErrFormat, cfg.Dir, format, formatVersion)
	}
	for _, name := range []string{"federation", "site"} {
		got, err := s.get(keyMeta(name))
		if err != nil {
			return err
		}
		if string(got) != want[name] {
			return fmt.Errorf("%w: %s belongs to %s %q, the configuration says %q", ErrForeign, cfg.Dir, name, got, want[name])
		}
	}
	if format[0] < formatVersion {
		return s.upgrade(format[0])
	}
	return nil
}

// load reads what is kept in memory: chain heads, meta and counts.
func (s *Store) load() error {
	for name, into := range map[string]func([]byte){
		"applied":     func(b []byte) { s.applied = binary.BigEndian.Uint64(b) },
		"incarnation": func(b []byte) { s.incarnation = binary.BigEndian.Uint32(b) },
	} {
		b, err := s.get(keyMeta(name))
		if err != nil {
			return fmt.Errorf("read meta %s: %w", name, err)
		}
		into(b)
	}
	if err := s.loadSiteFormat(); err != nil {
		return err
	}
	err := s.scan([]byte{tableChain}, func(key, value []byte) error {
		k, v := decoder{b: key[1:]}, decoder{b: value}
		stream, author := k.stream(), k.author()
		st := chainState{head: crdt.Head{Seq: v.u64(), Hash: v.hash()}, bytes: v.u64()}
		if k.bad || v.bad {
			return fmt.Errorf("%w: head of a chain of %s", ErrCorrupt, stream)
		}
		s.setChain(crdt.ChainID{Stream: stream, Author: author}, st)
		s.counts.Records += st.head.Seq
		return nil
	})
	if err != nil {
		return err
	}
	count := func(n *uint64) func([]byte, []byte) error {
		return func([]byte, []byte) error { *n++; return nil }
	}
	return s.scan([]byte{tableRefused}, count(&s.counts.Refused))
}

func (s *Store) setChain(c crdt.ChainID, st chainState) {
	if s.chains[c.Stream] == nil {
		s.chains[c.Stream] = map[crdt.Author]chainState{}
	}
	s.chains[c.Stream][c.Author] = st
}

func (s *Store) dropChain(c crdt.ChainID) {
	delete(s.chains[c.Stream], c.Author)
	if len(s.chains[c.Stream]) == 0 {
		delete(s.chains, c.Stream)
	}
	delete(s.grown, c)
}

// Flush makes everything committed so far durable and returns the Raft index
// that the durable state reflects.
func (s *Store) Flush() error {
	if err := s.usage.enter(); err != nil {
		return err
	}
	defer s.usage.leave()
	return s.flush()
}

func (s *Store) flush() error {
	if err := s.db.Flush(); err != nil {
		return fmt.Errorf("flush store: %w", err)
	}
	return nil
}

// Close flushes and closes the store. It is idempotent.
func (s *Store) Close() error { return s.end(true) }

// Abandon closes the store as a crash would: what was not flushed is lost. The
// testbed uses it.
func (s *Store) Abandon() error { return s.end(false) }

func (s *Store) end(flush bool) error {
	s.ending.once.Do(func() {
		s.usage.close()
		s.presence.readers.Wait()
		if s.db == nil {
			return // a replacement went wrong half-way
		}
		if flush {
			s.ending.err = s.flush()
		}
		s.ending.err = errors.Join(s.ending.err, s.db.Close())
	})
	return s.ending.err
}

// AppliedIndex returns the Raft index that the store reflects.
func (s *Store) AppliedIndex() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.applied
}

// Incarnation returns the site's incarnation, from 1.
func (s *Store) Incarnation() uint32 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.incarnation
}

// Counts returns the store's sizes.
func (s *Store) Counts() Counts {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.counts
}

// TakeGrown returns the chains that grew since the last call, with their heads.
// It has one consumer, which [Store.Changed] wakes; memory is bounded by the
// number of chains.
func (s *Store) TakeGrown() map[crdt.ChainID]crdt.Head {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.grown
	s.grown = map[crdt.ChainID]crdt.Head{}
	return out
}

// Changed receives a value after commits that added records; bursts coalesce.
func (s *Store) Changed() <-chan struct{} { return s.changed }

// DirtyNotify receives a value after commits that left documents dirty.
func (s *Store) DirtyNotify() <-chan struct{} { return s.dirty }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Streams returns the streams that hold at least one record, in lane order.
func (s *Store) Streams() []tiers.StreamID {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.SortedFunc(maps.Keys(s.chains), tiers.StreamID.Compare)
}

// Vector returns what the store holds of a stream; the caller owns it.
func (s *Store) Vector(stream tiers.StreamID) crdt.Vector {
	s.mu.RLock()
	defer s.mu.RUnlock()
	v := make(crdt.Vector, len(s.chains[stream]))
	for a, st := range s.chains[stream] {
		v[a] = st.head
	}
	return v
}

func (s *Store) chain(c crdt.ChainID) chainState {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if st, ok := s.chains[c.Stream][c.Author]; ok {
		return st
	}
	return chainState{head: c.Origin()}
}

// get returns a copy of a value, or [ErrNotFound].
func (s *Store) get(key []byte) ([]byte, error) {
	v, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read store: %w", err)
	}
	out := append([]byte(nil), v...)
	return out, closer.Close()
}

// scan calls f for each entry under prefix; the slices are valid in f only.
func (s *Store) scan(prefix []byte, f func(key, value []byte) error) error {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: prefixEnd(prefix)})
	if err != nil {
		return fmt.Errorf("scan store: %w", err)
	}
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		err = f(it.Key(), it.Value())
	}
	return errors.Join(err, it.Error(), it.Close())
}

// pebbleLogger passes Pebble's messages on at debug level.
type pebbleLogger struct {
	l     *slog.Logger
	fatal func(error)
}

func (p pebbleLogger) Infof(format string, args ...any) {
	p.l.Debug("pebble", "msg_text", fmt.Sprintf(format, args...))
}

func (p pebbleLogger) Errorf(format string, args ...any) {
	p.l.Error("pebble", "err", fmt.Sprintf(format, args...))
}

func (p pebbleLogger) Fatalf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	for _, arg := range args {
		if err, ok := arg.(error); ok {
			p.fatal(damage(text, err))
			return
		}
	}
	p.fatal(fmt.Errorf("store: %s", text))
}
