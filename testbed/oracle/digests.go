package oracle

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/tiers"
)

// Digests checks, for each stream and the sites of its audience, that the digests
// which they would compare are equal exactly when their records are. Content is
// hashed anew from the records; chain hashes play no part in it.
func Digests(t *tiers.Topology, sites []Site) Verdict {
	v := Verdict{Oracle: "digests"}
	for _, stream := range streams(sites) {
		contentOf, digestOf := map[crdt.Hash]heldBy{}, map[crdt.Hash]heldBy{}
		for _, site := range sites {
			if !t.InAudience(stream, site.ID) {
				continue
			}
			v.Checked++
			vector := site.Store.Vector(stream)
			digest := vector.Digest(stream)
			content, err := contentHash(site.Store, stream, vector)
			if err != nil {
				v.unread(stream, site.ID, err)
				continue
			}
			if other, seen := contentOf[digest]; !seen {
				contentOf[digest] = heldBy{site.ID, content}
			} else if other.hash != content {
				v.violate("%s: %s and %s have equal digests and different records", stream, other.site, site.ID)
			}
			if other, seen := digestOf[content]; !seen {
				digestOf[content] = heldBy{site.ID, digest}
			} else if other.hash != digest {
				v.violate("%s: %s and %s have equal records and different digests", stream, other.site, site.ID)
			}
		}
	}
	return v
}

// heldBy is a hash and the site at which it was first seen.
type heldBy struct {
	site tiers.SiteID
	hash crdt.Hash
}

// streams lists every stream that one of the sites holds, in lane order.
func streams(sites []Site) []tiers.StreamID {
	all := map[tiers.StreamID]bool{}
	for _, site := range sites {
		for _, s := range site.Store.Streams() {
			all[s] = true
		}
	}
	return slices.SortedFunc(maps.Keys(all), tiers.StreamID.Compare)
}

// contentHash hashes the records that a vector names: who wrote them, and each
// one's bytes in order.
func contentHash(st Store, stream tiers.StreamID, vector crdt.Vector) (crdt.Hash, error) {
	sum := sha256.New()
	number := func(n uint64) { sum.Write(binary.BigEndian.AppendUint64(nil, n)) }
	for _, author := range vector.Authors() {
		fmt.Fprintf(sum, "%d:%s", len(author.Site), author)
		for first, last := uint64(1), vector[author].Seq; first <= last; {
			run, err := st.ReadRun(crdt.ChainID{Stream: stream, Author: author}, first, last, runBytes)
			if err != nil {
				return crdt.Hash{}, err
			}
			if len(run.Records) == 0 {
				return crdt.Hash{}, fmt.Errorf("chain of %s has no record %d of %d", author, first, last)
			}
			for _, enc := range run.Records {
				number(uint64(len(enc)))
				sum.Write(enc)
			}
			first += uint64(len(run.Records))
		}
		number(1 << 63) // no record is as long: the chain ends
	}
	return crdt.Hash(sum.Sum(nil)), nil
}

// Converged checks that both ends of each line of the tree, of which both are
// among the sites, hold the same of every stream that they share, and hold it up to
// its last record.
func Converged(t *tiers.Topology, sites []Site) Verdict {
	v := Verdict{Oracle: "converged"}
	byID := map[tiers.SiteID]Site{}
	for _, s := range sites {
		byID[s.ID] = s
	}
	for _, child := range sites {
		row, _ := t.Site(child.ID)
		parent, there := byID[row.Parent]
		if !there || row.Retired {
			continue
		}
		v.Checked++
		if !Equal(t, child, parent) {
			v.violate("%s and %s hold different records", child.ID, parent.ID)
		}
	}
	return v
}

// Equal reports whether two sites' stores have equal digests of the streams that
// both are to hold. Digests proves that such are worth that.
func Equal(t *tiers.Topology, a, b Site) bool {
	return shared(t, a, b) == shared(t, b, a)
}

// shared is the digest of what a holds of the streams that it shares with b.
func shared(t *tiers.Topology, a, b Site) crdt.Hash {
	all := map[tiers.StreamID]crdt.Hash{}
	for _, s := range a.Store.Streams() {
		if t.InAudience(s, a.ID) && t.InAudience(s, b.ID) {
			all[s] = a.Store.Vector(s).Digest(s)
		}
	}
	return crdt.LinkDigest(all)
}
