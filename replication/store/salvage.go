package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tiermesh/tiermesh/crdt"
)

// SalvageConfig says what to read and where to write.
type SalvageConfig struct {
	// Sources are directories of the same site's: first that of the damaged store,
	// then of snapshots and other nodes' stores. They are only read.
	Sources []string
	// Replay is called with the new store when that holds everything that the first
	// source did, and reflects the same entry of the Raft log: to apply what that
	// did not reflect yet. Nil for nothing.
	Replay func(into *Store) error
	// Into is the new store; its directory must not exist.
	Into Config
	// Incarnation is at least the site's last one, zero when nothing else than the
	// sources says it.
	Incarnation uint32
}

// Gap is a run of a chain that a salvage could not put into the new store.
type Gap struct {
	Stream string `json:"stream"`
	Author string `json:"author"`
	First  uint64 `json:"first"`
	Last   uint64 `json:"last"`
	// Kept says that the records can be read and stand behind one that cannot:
	// without it they cannot be verified.
	Kept bool   `json:"kept"`
	What string `json:"what"`
}

// SalvageResult is what a salvage read, and what not.
type SalvageResult struct {
	Chains      uint64 `json:"chains"`
	Records     uint64 `json:"records"`
	Outcomes    uint64 `json:"outcomes"`
	Claims      uint64 `json:"claims"`
	Incarnation uint32 `json:"incarnation"`
	// Damaged are the table files that could not be read whole.
	Damaged []Finding `json:"damaged"`
	// Gaps are in chain order.
	Gaps []Gap `json:"gaps"`
	// Unread names what else may be incomplete.
	Unread []string `json:"unread,omitempty"`
}

// IncarnationLeap is how far a site's incarnation is moved on when the sources
// do not say for sure what it was: past any that it will have had, since each is a
// restore, a rollback or a clone, and far less than what peers take in at most.
const IncarnationLeap = 1 << 5

// Salvage makes a new store of everything in the sources that can be verified:
// each chain from its origin, as long as each record hashes to what was stored
// with it, through the same code as records from peers; the outcomes under
// idempotency keys; the claims. The site goes on in an incarnation that it never
// had, so that no place in a chain and no epoch of a claim comes twice. The new
// store reflects [RebasedIndex]. The error wraps [ErrForeign].
func Salvage(cfg SalvageConfig) (r SalvageResult, err error) {
	fs := cfg.Into.FS
	if fs == nil {
		fs = vfs.Default
	}
	t := openTables(fs, cfg.Sources)
	defer t.close()
	if err := t.checkOwner(cfg.Into); err != nil {
		return r, err
	}
	into, err := Open(cfg.Into)
	if err != nil {
		return r, err
	}
	s := salvage{cfg: cfg, tables: t, into: into, r: SalvageResult{Gaps: []Gap{}}}
	err = s.run()
	s.r.Damaged = append([]Finding{}, t.findings()...)
	s.r.Records, s.r.Incarnation = into.Counts().Records, into.Incarnation()
	return s.r, errors.Join(err, into.Close())
}

// checkOwner compares what the sources say of their site with what is wanted.
func (t *tables) checkOwner(c Config) error {
	for name, want := range map[string]string{"federation": c.Federation, "site": string(c.Site)} {
		var wrong error
		t.find(keyMeta(name), func(v []byte) bool {
			if string(v) != want {
				wrong = fmt.Errorf("%w: a source belongs to %s %q, this node to %q", ErrForeign, name, v, want)
			}
			return wrong != nil
		})
		if wrong != nil {
			return wrong
		}
	}
	return nil
}

// meta returns the last entry that the first source reflects and the site's last
// incarnation; sure says that there was no later one.
func (t *tables) meta() (applied uint64, incarnation uint32, sure bool) {
	known := false
	bad := t.scan(keyMeta("incarnation"), func(_, v []byte) {
		if len(v) == 4 {
			incarnation, known = max(incarnation, binary.BigEndian.Uint32(v)), true
		}
	})
	for _, o := range t.open {
		// Another source may be of another group, with a log of its own.
		if v := o.get(keyMeta("applied")); o.whole && len(v) == 8 {
			applied = max(applied, binary.BigEndian.Uint64(v))
		}
	}
	return applied, max(incarnation, 1), known && !bad
}

// salvage is a salvage under way.
type salvage struct {
	cfg    SalvageConfig
	tables *tables
	into   *Store
	r      SalvageResult
}

func (s *salvage) run() error {
	applied, incarnation, sure := s.tables.meta()
	found, more := s.tables.chains()
	if more {
		s.r.Unread = append(s.r.Unread, "ends of chains: some may have had more records, and there may have been others")
	}
	for _, c := range slices.SortedFunc(maps.Keys(found), crdt.ChainID.Compare) {
		if c.Stream.Validate() != nil || c.Author.Site.Validate() != nil {
			s.r.Unread = append(s.r.Unread, fmt.Sprintf("a chain whose name is damaged: %q", c))
			continue
		}
		if c.Author.Site == s.into.cfg.Site {
			incarnation = max(incarnation, c.Author.Incarnation)
		}
		s.r.Chains++
		if err := s.chain(c, found[c]); err != nil {
			return fmt.Errorf("salvage %s: %w", c, err)
		}
	}
	claimed, unclear, err := s.rows()
	if err != nil {
		return err
	}
	tx := s.into.Begin()
	if err := errors.Join(tx.SetIncarnation(incarnation), tx.Commit(max(applied, RebasedIndex))); err != nil {
		return err
	}
	if s.cfg.Replay != nil {
		if more || unclear || len(s.r.Gaps) > 0 {
			s.r.Unread = append(s.r.Unread, fmt.Sprintf("the log's entries behind %d: what they are built on is missing", applied))
		} else if err := s.cfg.Replay(s.into); err != nil {
			s.r.Unread = append(s.r.Unread, fmt.Sprintf("the log's entries behind %d, perhaps not all of them: %v", applied, err))
		}
	}
	incarnation = max(s.into.Incarnation(), claimed, s.cfg.Incarnation)
	if !sure {
		incarnation += IncarnationLeap
	}
	tx = s.into.Begin()
	if err := errors.Join(tx.SetIncarnation(incarnation), tx.Commit(s.into.AppliedIndex())); err != nil {
		return err
	}
	return errors.Join(s.into.Rebase(), s.into.scan([]byte{tableKey}, func(_, _ []byte) error {
		s.r.Outcomes++
		return nil
	}))
}

// salvageRun is how many records go into one Tx.
const salvageRun = 256

// chain writes the verified part of a chain and notes the rest.
func (s *salvage) chain(c crdt.ChainID, last uint64) error {
	checkpoints := map[uint64]crdt.Checkpoint{}
	s.tables.scan(keyChain(tableCheckpoint, c), func(k, v []byte) {
		if at, err := decodeCheckpoint(c, k, v); err == nil {
			checkpoints[at.seq] = at.checkpoint
		}
	})
	at := c.Origin()
	for at.Seq < last {
		tx := s.into.Begin()
		from := at.Seq
		for at.Seq < last && at.Seq < from+salvageRun {
			enc := s.record(c, at)
			if enc == nil {
				break
			}
			at = at.Next(enc)
			if err := tx.ingestOne(c, enc); err != nil {
				return errors.Join(err, tx.Discard())
			}
			if cp, ok := checkpoints[at.Seq]; ok && cp.Head == at {
				if err := tx.putCheckpoint(cp); err != nil {
					return errors.Join(err, tx.Discard())
				}
			}
		}
		if err := tx.Commit(RebasedIndex); err != nil {
			return err
		}
		if at.Seq < from+salvageRun {
			break
		}
	}
	s.gaps(c, at.Seq+1, last)
	return nil
}

// record returns the record that follows a head, nil when no source has one that
// hashes to what was stored with it.
func (s *salvage) record(c crdt.ChainID, at crdt.Head) (enc []byte) {
	s.tables.find(keySeq(tableRecord, c, at.Seq+1), func(v []byte) bool {
		if len(v) < 32 || at.Next(v[32:]).Hash != crdt.Hash(v[:32]) {
			return false
		}
		if _, err := crdt.DecodeRecord(v[32:]); err != nil {
			return false
		}
		enc = append([]byte(nil), v[32:]...)
		return true
	})
	return enc
}

// gaps notes why each record from first to last is not in the new store.
func (s *salvage) gaps(c crdt.ChainID, first, last uint64) {
	for seq := first; seq <= last; seq++ {
		g := Gap{Stream: c.Stream.String(), Author: c.Author.String(), First: seq, Last: seq, What: "cannot be read"}
		found := s.tables.find(keySeq(tableRecord, c, seq), func(v []byte) bool { return len(v) >= 32 })
		switch {
		case found && seq == first:
			g.What = "does not hash to what was stored"
		case found:
			g.Kept, g.What = true, "stands behind a record that cannot be verified"
		}
		if n := len(s.r.Gaps); n > 0 && s.r.Gaps[n-1].Last == seq-1 && seq > first && s.r.Gaps[n-1].What == g.What {
			s.r.Gaps[n-1].Last = seq
			continue
		}
		s.r.Gaps = append(s.r.Gaps, g)
	}
}

// rowBytes is how much is written at once when rows are copied.
const rowBytes = 1 << 20

// rows copies the outcomes and the latest state of each claim. It returns the
// highest incarnation in an epoch, and whether claims may be missing.
func (s *salvage) rows() (claimed uint32, unclear bool, err error) {
	b := s.into.db.NewBatch()
	defer func() { _ = b.Close() }()
	var failed error
	set := func(k, v []byte) {
		failed = errors.Join(failed, b.Set(k, v, nil))
		if b.Len() > rowBytes {
			failed = errors.Join(failed, b.Commit(pebble.NoSync))
			b = s.into.db.NewBatch()
		}
	}
	if s.tables.scan([]byte{tableKey}, set) {
		s.r.Unread = append(s.r.Unread, "outcomes under idempotency keys: a retry of an old write may take effect again")
	}
	claims := map[string]Claim{}
	unclear = s.tables.scan([]byte{tableClaim}, func(k, v []byte) {
		if len(v) < 8 {
			return
		}
		claimed = max(claimed, binary.BigEndian.Uint32(v))
		c := Claim{Epoch: binary.BigEndian.Uint64(v), Holder: string(v[8:])}
		// A release keeps the epoch of its grant, and comes after it.
		if old, ok := claims[string(k)]; !ok || c.Epoch > old.Epoch || c.Epoch == old.Epoch && c.Holder == "" {
			claims[string(k)] = c
		}
	})
	if unclear {
		s.r.Unread = append(s.r.Unread, "claims: a resource may show an earlier holder, or none; epochs go on above all earlier ones")
	}
	for _, k := range slices.Sorted(maps.Keys(claims)) {
		set([]byte(k), append(binary.BigEndian.AppendUint64(nil, claims[k].Epoch), claims[k].Holder...))
	}
	s.r.Claims = uint64(len(claims))
	return claimed, unclear, errors.Join(failed, b.Commit(pebble.NoSync))
}
