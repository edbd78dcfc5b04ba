package oracle

import (
	"cmp"
	"slices"

	"github.com/tiermesh/tiermesh/tiers"
)

// Granted is a claim of which a client was told that it was granted.
type Granted struct {
	// Site is the resource's home; the same name elsewhere is another resource.
	Site     tiers.SiteID
	Resource string
	Holder   string
	Epoch    uint64
}

// Claims checks that no resource was given to two holders in one epoch, and that
// the sites have forgotten none: a resource's epoch is at least the highest that was
// granted, and in that epoch it is held by whom it was given to, or free.
func Claims(granted []Granted, sites []Site) Verdict {
	v := Verdict{Oracle: "claims"}
	granted = slices.Clone(granted)
	slices.SortStableFunc(granted, func(a, b Granted) int {
		return cmp.Or(cmp.Compare(a.Site, b.Site), cmp.Compare(a.Resource, b.Resource), cmp.Compare(a.Epoch, b.Epoch), cmp.Compare(a.Holder, b.Holder))
	})
	granted = slices.Compact(granted) // a holder that asks again keeps its epoch
	stores := map[tiers.SiteID]Store{}
	for _, s := range sites {
		stores[s.ID] = s.Store
	}
	for i, g := range granted {
		v.Checked++
		if g.Epoch == 0 {
			v.violate("%s of %s was given to %s in no epoch", g.Resource, g.Site, g.Holder)
		}
		last := i+1 == len(granted) || granted[i+1].Site != g.Site || granted[i+1].Resource != g.Resource
		if !last && granted[i+1].Epoch == g.Epoch {
			v.violate("%s of %s was given to %s and to %s in epoch %d", g.Resource, g.Site, g.Holder, granted[i+1].Holder, g.Epoch)
		}
		if st := stores[g.Site]; st != nil && last {
			v.remembered(st, g)
		}
	}
	return v
}

// remembered compares the last grant of a resource with what its home knows.
func (v *Verdict) remembered(st Store, g Granted) {
	now, err := st.Claim(g.Resource)
	switch {
	case err != nil:
		v.unread(g.Resource, g.Site, err)
	case now.Epoch < g.Epoch:
		v.violate("%s of %s was given to %s in epoch %d and is in epoch %d", g.Resource, g.Site, g.Holder, g.Epoch, now.Epoch)
	case now.Epoch == g.Epoch && now.Holder != g.Holder && now.Holder != "":
		v.violate("%s of %s was given to %s in epoch %d and is held by %s", g.Resource, g.Site, g.Holder, g.Epoch, now.Holder)
	}
}
