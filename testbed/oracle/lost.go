package oracle

import (
	"errors"
	"maps"
	"slices"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
)

// NothingLost checks that each acknowledged write is at every one of the sites
// that is in its stream's audience. A write is its record, wherever in its author's
// chains it stands: what a site writes once more in a new incarnation, after a fork,
// is not lost.
func NothingLost(t *tiers.Topology, acked []Acked, scope []Site) Verdict {
	v := Verdict{Oracle: "nothing lost"}
	byStream := map[tiers.StreamID][]Acked{}
	for _, a := range acked {
		byStream[a.Stream] = append(byStream[a.Stream], a)
	}
	for _, stream := range slices.SortedFunc(maps.Keys(byStream), tiers.StreamID.Compare) {
		for _, site := range scope {
			if t.InAudience(stream, site.ID) {
				v.lost(site, stream, byStream[stream])
			}
		}
	}
	return v
}

// KeptAtHome checks that each acknowledged write is at the site that acknowledged
// it, as far as that is one of the sites. It holds at any time.
func KeptAtHome(acked []Acked, sites []Site) Verdict {
	v := Verdict{Oracle: "kept at home"}
	type home struct {
		site   tiers.SiteID
		stream tiers.StreamID
	}
	homes := map[home][]Acked{}
	streams := map[tiers.SiteID]map[tiers.StreamID]bool{}
	for _, a := range acked {
		homes[home{a.Site, a.Stream}] = append(homes[home{a.Site, a.Stream}], a)
		if streams[a.Site] == nil {
			streams[a.Site] = map[tiers.StreamID]bool{}
		}
		streams[a.Site][a.Stream] = true
	}
	for _, site := range sites {
		for _, stream := range slices.SortedFunc(maps.Keys(streams[site.ID]), tiers.StreamID.Compare) {
			v.lost(site, stream, homes[home{site.ID, stream}])
		}
	}
	return v
}

// lost counts those writes of one stream that a site lacks.
func (v *Verdict) lost(site Site, stream tiers.StreamID, acked []Acked) {
	v.Checked += uint64(len(acked))
	found, err := recorded(site.Store, stream, acked)
	if err != nil {
		v.unread(stream, site.ID, err)
		return
	}
	for i, a := range acked {
		if found[i] {
			continue
		}
		again, err := rewritten(site.Store, a, acked)
		switch {
		case err != nil:
			v.unread(a.Doc, site.ID, err)
		case !again:
			v.violate("%s lacks %s/%s, record %d that %s acknowledged", site.ID, stream, a.Doc, a.Seq, a.Site)
		}
	}
}

// recorded tells which writes stand where they were acknowledged to stand.
func recorded(st Store, stream tiers.StreamID, acked []Acked) ([]bool, error) {
	wanted := map[tiers.SiteID]map[uint64][]int{}
	for i, a := range acked {
		if wanted[a.Site] == nil {
			wanted[a.Site] = map[uint64][]int{}
		}
		wanted[a.Site][a.Seq] = append(wanted[a.Site][a.Seq], i)
	}
	found := make([]bool, len(acked))
	for author, head := range st.Vector(stream) {
		at := wanted[author.Site]
		chain := crdt.ChainID{Stream: stream, Author: author}
		next := uint64(0) // of the first record not read yet
		for _, seq := range slices.Sorted(maps.Keys(at)) {
			if seq < max(next, 1) || seq > head.Seq {
				continue
			}
			run, err := st.ReadRun(chain, seq, head.Seq, runBytes)
			if err != nil {
				return nil, err
			}
			next = seq + uint64(len(run.Records))
			for i, enc := range run.Records {
				rec, err := crdt.DecodeRecord(enc)
				if err != nil {
					return nil, err
				}
				for _, j := range at[run.First+uint64(i)] {
					found[j] = found[j] || acked[j].Doc == rec.Doc
				}
			}
		}
	}
	return found, nil
}

// rewritten reports whether a write that does not stand in its place is there all
// the same: no record of its own was needed, or its site has written it again in
// another incarnation. Then the document has as many changes of that site as were
// acknowledged.
func rewritten(st Store, a Acked, acked []Acked) (bool, error) {
	incarnations := 0
	for author := range st.Vector(a.Stream) {
		if author.Site == a.Site {
			incarnations++
		}
	}
	if a.Seq != 0 && incarnations < 2 {
		return false, nil
	}
	h, err := st.Changes(store.DocKey{Stream: a.Stream, Doc: a.Doc})
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil || a.Seq == 0 {
		return err == nil, err
	}
	want, have := map[uint64]bool{}, 0
	for _, other := range acked {
		if other.Site == a.Site && other.Doc == a.Doc && other.Seq != 0 {
			want[other.Seq] = true
		}
	}
	for _, author := range h.Authors {
		if author.Site == a.Site {
			have++
		}
	}
	return have >= len(want), nil
}
