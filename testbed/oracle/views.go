package oracle

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"maps"
	"runtime"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
)

// SameViews checks that sites which hold the same records of a document show the
// same view of it: the JSON, byte for byte, and the index entries. Records are
// compared themselves, so it holds also while links are cut. With complete, each of
// the sites that is in the audience must hold each document, and the same records
// of it, as after convergence.
func SameViews(t *tiers.Topology, sites []Site, complete bool) Verdict {
	v := Verdict{Oracle: "same views"}
	shown := make([][]shownDocument, len(sites))
	errs := make([]error, len(sites))
	var g errgroup.Group // each goroutine ends with its site
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, site := range sites {
		g.Go(func() error {
			shown[i], errs[i] = documents(site)
			return nil
		})
	}
	_ = g.Wait() // errors are in errs, one for each site
	docs := map[store.DocKey]*holders{}
	for i, site := range sites {
		if errs[i] != nil {
			v.unread("a view", site.ID, errs[i])
		}
		for _, d := range shown[i] {
			v.compare(site.ID, d, docs)
		}
	}
	if complete {
		for _, k := range slices.SortedFunc(maps.Keys(docs), compareKeys) {
			v.whole(t, k, docs[k], sites)
		}
	}
	return v
}

func compareKeys(a, b store.DocKey) int {
	if d := a.Stream.Compare(b.Stream); d != 0 {
		return d
	}
	return slices.Compare([]byte(a.Doc), []byte(b.Doc))
}

// shownDocument is a document at one site.
type shownDocument struct {
	key           store.DocKey
	records, view crdt.Hash
}

// holders are the sites that hold a document.
type holders struct {
	records map[tiers.SiteID]crdt.Hash
	// first is who was seen first with some records, and what it showed.
	first map[crdt.Hash]shownAt
}

type shownAt struct {
	site tiers.SiteID
	view crdt.Hash
}

// compare compares a document with those seen before.
func (v *Verdict) compare(site tiers.SiteID, d shownDocument, docs map[store.DocKey]*holders) {
	v.Checked++
	h := docs[d.key]
	if h == nil {
		h = &holders{records: map[tiers.SiteID]crdt.Hash{}, first: map[crdt.Hash]shownAt{}}
		docs[d.key] = h
	}
	h.records[site] = d.records
	first, seen := h.first[d.records]
	if !seen {
		h.first[d.records] = shownAt{site, d.view}
		return
	}
	if first.view != d.view {
		v.violate("%s: %s and %s hold the same records and show different views", d.key, first.site, site)
	}
}

// whole checks that every site of its audience holds a document alike.
func (v *Verdict) whole(t *tiers.Topology, k store.DocKey, h *holders, sites []Site) {
	var first tiers.SiteID
	for _, site := range sites {
		if !t.InAudience(k.Stream, site.ID) {
			continue
		}
		records, held := h.records[site.ID]
		switch {
		case !held:
			v.violate("%s is missing at %s", k, site.ID)
			return
		case first == "":
			first = site.ID
		case records != h.records[first]:
			v.violate("%s: %s and %s hold different records", k, first, site.ID)
			return
		}
	}
}

// documents reads what a site shows.
func documents(site Site) (out []shownDocument, err error) {
	err = site.Store.Documents(func(k store.DocKey) error {
		d, there, err := showsNow(site, k)
		if there && err == nil {
			out = append(out, d)
		}
		return err
	})
	return out, err
}

// showsAttempts is how often a document is read that moves on meanwhile.
const showsAttempts = 5

// showsNow reads a document's records and the view of exactly these. A document of
// which nothing is left, or that does not hold still, is not there.
func showsNow(site Site, k store.DocKey) (d shownDocument, there bool, err error) {
	for range showsAttempts {
		h, err := site.Store.Changes(k)
		if errors.Is(err, store.ErrNotFound) {
			return d, false, nil
		}
		if err != nil {
			return d, false, err
		}
		view, err := site.View(k)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return d, false, err
		}
		after, again := site.Store.Changes(k)
		if again == nil && after.Version == h.Version && after.Database == h.Database {
			return shownDocument{k, recordsHash(h), viewHash(view)}, true, nil
		}
	}
	return d, false, nil
}

// recordsHash names a set of records of a document: its changes, in any order, and
// how many wait or are refused, which a view says, too.
func recordsHash(h *store.Changes) crdt.Hash {
	all := make([]crdt.Hash, len(h.Raw))
	for i, raw := range h.Raw {
		all[i] = sha256.Sum256(raw)
	}
	slices.SortFunc(all, func(a, b crdt.Hash) int { return slices.Compare(a[:], b[:]) })
	sum := sha256.New()
	for _, x := range all {
		sum.Write(x[:])
	}
	sum.Write(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(h.Pending)), uint64(h.Refused)))
	return crdt.Hash(sum.Sum(nil))
}

func viewHash(v crdt.View) crdt.Hash {
	sum := sha256.New()
	part := func(b []byte) {
		sum.Write(binary.BigEndian.AppendUint64(nil, uint64(len(b))))
		sum.Write(b)
	}
	part(v.JSON)
	for _, e := range v.Index {
		part([]byte(e.Name))
		part([]byte(e.Value))
	}
	return crdt.Hash(sum.Sum(nil))
}
