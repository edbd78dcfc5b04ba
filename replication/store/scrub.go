package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/change"
	"github.com/tiermesh/tiermesh/tiers"
)

// Finding is something that a scrub found damaged. Nothing of it is deleted.
type Finding struct {
	// Stream, and where it is known the author, record and document.
	Stream string      `json:"stream,omitempty"`
	Author string      `json:"author,omitempty"`
	Seq    uint64      `json:"seq,omitempty"`
	Doc    tiers.DocID `json:"doc,omitempty"`
	File   string      `json:"file,omitempty"`
	What   string      `json:"what"`
}

// String names what is damaged and how.
func (f Finding) String() string {
	var where []string
	for _, part := range []string{f.Stream, f.Author, string(f.Doc), f.File} {
		if part != "" {
			where = append(where, part)
		}
	}
	if f.Seq != 0 {
		where = append(where, fmt.Sprintf("record %d", f.Seq))
	}
	if len(where) == 0 {
		return f.What
	}
	return strings.Join(where, " ") + ": " + f.What
}

// ScrubResult is what a scrub read and found.
type ScrubResult struct {
	Chains      uint64    `json:"chains"`
	Records     uint64    `json:"records"`
	Checkpoints uint64    `json:"checkpoints"`
	Documents   uint64    `json:"documents"`
	Findings    []Finding `json:"findings"`
}

// findingsMax bounds the findings of a scrub; a disk that is broken all over
// needs no list.
const findingsMax = 1000

// Scrub reads every chain and document again and recomputes what follows from
// what: each record's chain hash, each head, each checkpoint's hash, the
// changes that each document consists of, and the readings of each series. Of each table every block is checked. The error is ctx's, or [ErrClosed]; damage is in
// the result.
func (s *Store) Scrub(ctx context.Context) (ScrubResult, error) {
	r := ScrubResult{Findings: []Finding{}}
	for _, stream := range s.Streams() {
		for _, author := range s.Vector(stream).Authors() {
			if err := s.scrubChain(ctx, &r, crdt.ChainID{Stream: stream, Author: author}); err != nil {
				return r, err
			}
		}
	}
	err := s.Documents(func(k DocKey) error {
		s.scrubDocument(&r, k)
		return ctx.Err()
	})
	if err != nil && ctx.Err() == nil && !errors.Is(err, ErrClosed) {
		r.add(Finding{What: err.Error()})
		err = nil
	}
	if err == nil {
		err = s.scrubReadings(ctx, &r)
	}
	s.scrubTables(ctx, &r)
	return r, err
}

// scrubTables reads every table whole, also where views, outcomes and claims
// stand, and names those that are damaged, or were when they were read.
func (s *Store) scrubTables(ctx context.Context, r *ScrubResult) {
	named := map[string]bool{}
	found, err := CheckTables(ctx, s.cfg.FS, s.cfg.Dir)
	if err != nil && ctx.Err() == nil {
		r.add(Finding{What: err.Error()})
	}
	for _, f := range found {
		named[filepath.Base(f.File)] = true
		r.add(f)
	}
	for _, path := range s.rot.files() {
		if !named[filepath.Base(path)] {
			r.add(Finding{File: path, What: "table is damaged"})
		}
	}
}

func (r *ScrubResult) add(f Finding) {
	if len(r.Findings) < findingsMax {
		r.Findings = append(r.Findings, f)
	}
}

// scrubChain folds a chain's hashes from its origin to its head.
func (s *Store) scrubChain(ctx context.Context, r *ScrubResult, c crdt.ChainID) error {
	if err := s.usage.enter(); err != nil {
		return err
	}
	defer s.usage.leave()
	r.Chains++
	want := s.chain(c).head
	bad := func(seq uint64, format string, args ...any) {
		r.add(Finding{Stream: c.Stream.String(), Author: c.Author.String(), Seq: seq, What: fmt.Sprintf(format, args...)})
	}
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: keySeq(tableRecord, c, 0), UpperBound: keySeq(tableRecord, c, want.Seq+1)})
	if err != nil {
		bad(0, "cannot be read: %v", err)
		return nil
	}
	at := c.Origin()
	for ok := it.First(); ok && ctx.Err() == nil; ok = it.Next() {
		k, v := decoder{b: it.Key()[len(it.Key())-8:]}, it.Value()
		seq := k.u64()
		if seq != at.Seq+1 || len(v) < 32 {
			bad(at.Seq+1, "record is missing")
			break
		}
		at = at.Next(v[32:])
		r.Records++
		if crdt.Hash(v[:32]) != at.Hash {
			bad(seq, "record does not hash to what was stored")
			break
		}
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		bad(at.Seq+1, "cannot be read: %v", err)
	} else if at != want && ctx.Err() == nil {
		bad(at.Seq, "chain ends here, its head says %d", want.Seq)
	}
	cps, err := s.checkpointsBefore(c, want.Seq+1, int(min(want.Seq, 1<<30)))
	if err != nil {
		bad(0, "checkpoints: %v", err)
	}
	for _, cp := range cps {
		r.Checkpoints++
		if h, err := s.hashAt(c, cp.seq); err != nil || h != cp.checkpoint.Head.Hash {
			bad(cp.seq, "checkpoint does not fit the chain")
		}
	}
	return ctx.Err()
}

// scrubDocument checks that a document's changes are there, and are those that
// its state names.
func (s *Store) scrubDocument(r *ScrubResult, k DocKey) {
	r.Documents++
	bad := func(what string) { r.add(Finding{Stream: k.Stream.String(), Doc: k.Doc, What: what}) }
	if _, gone, err := s.Gone(k); gone && err == nil {
		return
	}
	h, err := s.Changes(k)
	if err != nil {
		bad(err.Error())
		return
	}
	inner := map[crdt.Hash]bool{}
	var all []crdt.Hash
	for _, raw := range h.Raw {
		c, err := change.Decode(raw, change.DefaultLimits())
		if err != nil {
			bad("applied change: " + err.Error())
			return
		}
		all = append(all, c.Hash)
		for _, d := range c.Deps {
			inner[d] = true
		}
	}
	var heads []crdt.Hash
	for _, x := range all {
		if !inner[x] {
			heads = append(heads, x)
		}
	}
	if !sameHashes(heads, h.Heads) {
		bad("its heads are not those of its changes")
	}
	for d := range inner {
		if !slices.Contains(all, d) {
			bad(fmt.Sprintf("change %s, on which another one builds, is missing", d))
		}
	}
}
