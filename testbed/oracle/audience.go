package oracle

import (
	"slices"

	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
)

// Audience checks that no site holds a stream, be it records or documents, outside
// that stream's audience, and that no chain is of an author who may not have
// written there. A site keeps what it held before it or the stream's site got
// another parent, or it was retired.
func Audience(t *tiers.Topology, sites []Site) Verdict {
	v := Verdict{Oracle: "audience"}
	for _, site := range sites {
		held := site.Store.Streams()
		for _, s := range held {
			for _, author := range site.Store.Vector(s).Authors() {
				v.Checked++
				if !t.MayHaveWritten(s, author.Site) {
					v.violate("%s holds records of %s in %s", site.ID, author, s)
				}
			}
		}
		err := site.Store.Documents(func(k store.DocKey) error {
			if len(held) == 0 || held[len(held)-1] != k.Stream { // documents come stream by stream
				held = append(held, k.Stream)
			}
			return nil
		})
		if err != nil {
			v.unread("a document", site.ID, err)
		}
		slices.SortFunc(held, tiers.StreamID.Compare)
		for _, s := range slices.Compact(held) {
			v.Checked++
			if !lawful(t, s, site.ID) {
				v.violate("%s holds %s", site.ID, s)
			}
		}
	}
	return v
}

// lawful reports whether a site may hold a stream: it is in its audience, or was
// before one of the two got another parent or the site was retired.
func lawful(t *tiers.Topology, s tiers.StreamID, site tiers.SiteID) bool {
	owner, _ := t.Site(s.Site)
	holder, _ := t.Site(site)
	down := s.Class == tiers.ClassControl || s.Class == tiers.ClassCatalog
	retired := holder.Retired && (site == s.Site || t.IsAncestor(site, s.Site) || down && t.IsAncestor(s.Site, site))
	return t.InAudience(s, site) || retired || slices.Contains(owner.Former, site) || down && slices.Contains(holder.Former, s.Site)
}
