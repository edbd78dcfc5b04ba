package store

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// metaSiteFormat names what the site's nodes may write to their log; see
// replication.Format.
const metaSiteFormat = "siteformat"

func (s *Store) loadSiteFormat() error {
	s.siteFormat = 0
	b, err := s.get(keyMeta(metaSiteFormat))
	switch {
	case errors.Is(err, ErrNotFound):
		return nil
	case err != nil:
		return fmt.Errorf("read meta %s: %w", metaSiteFormat, err)
	case len(b) != 4:
		return fmt.Errorf("%w: meta %s of %d bytes", ErrCorrupt, metaSiteFormat, len(b))
	}
	s.siteFormat = binary.BigEndian.Uint32(b)
	return nil
}

// SiteFormat returns the format that the site's nodes may write to their log, zero
// where none was agreed on.
func (s *Store) SiteFormat() uint32 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.siteFormat
}

// SiteFormat returns the format as of this Tx.
func (t *Tx) SiteFormat() uint32 {
	if t.siteFormat != 0 {
		return t.siteFormat
	}
	return t.s.SiteFormat()
}

// RaiseSiteFormat raises the format; a lower one, or the same, changes nothing.
func (t *Tx) RaiseSiteFormat(to uint32) error {
	if to <= t.SiteFormat() {
		return nil
	}
	t.siteFormat = to
	return t.batch.Set(keyMeta(metaSiteFormat), binary.BigEndian.AppendUint32(nil, to), nil)
}

// StateDigest is a hash of what decides on writes: the head of every chain, every
// claim, the incarnation and the site's format. Nodes that reflect the same Raft
// entry have the same. Nobody may commit meanwhile.
func (s *Store) StateDigest() (crdt.Hash, error) {
	if err := s.usage.enter(); err != nil {
		return crdt.Hash{}, err
	}
	defer s.usage.leave()
	held := map[tiers.StreamID]crdt.Hash{}
	for _, stream := range s.Streams() {
		held[stream] = s.Vector(stream).Digest(stream)
	}
	h := sha256.New()
	for _, stream := range slices.SortedFunc(maps.Keys(held), func(a, b tiers.StreamID) int { return strings.Compare(a.String(), b.String()) }) {
		d := held[stream]
		_, _ = h.Write(append([]byte(stream.String()), 0)) // a hash never fails
		_, _ = h.Write(d[:])
	}
	err := s.scan([]byte{tableClaim}, func(key, value []byte) error {
		for _, b := range [][]byte{key, value} {
			_, _ = h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(b))))
			_, _ = h.Write(b)
		}
		return nil
	})
	s.mu.RLock()
	end := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, s.incarnation), s.siteFormat)
	s.mu.RUnlock()
	_, _ = h.Write(end)
	return crdt.Hash(h.Sum(nil)), err
}
