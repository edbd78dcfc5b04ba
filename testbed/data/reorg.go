package data

import (
	"fmt"

	"github.com/tiermesh/tiermesh/tiers"
)

const (
	cityCode = tiers.SiteID("500000")
	// MergedDistrict is the district that the reorganisation makes; the code is
	// this project's, since no published table had one yet.
	MergedDistrict = tiers.SiteID("500190")
	mergedName     = "两江新区"
)

// ReorgMove is a township that changed its district on 2025-11-06.
type ReorgMove struct {
	Township tiers.SiteID
	Name     string
	From, To tiers.SiteID
}

// Reorganised lists the 47 townships that changed their district.
func Reorganised() ([]ReorgMove, error) {
	all, err := rows("reorg_2025-11-06.csv")
	if err != nil {
		return nil, err
	}
	districts, err := Districts()
	if err != nil {
		return nil, err
	}
	code := map[string]tiers.SiteID{mergedName: MergedDistrict}
	for _, d := range districts {
		code[d.Name] = d.Code
	}
	out := make([]ReorgMove, len(all))
	for i, r := range all {
		out[i] = ReorgMove{tiers.SiteID(r[0]), r[1], code[r[2]], code[r[3]]}
		if out[i].From == "" || out[i].To == "" {
			return nil, fmt.Errorf("embedded data: township %s moves from %q to %q, which no district is called", r[0], r[2], r[3])
		}
	}
	return out, nil
}

// Reorganisation returns the whole city before and after: the two districts that
// lost every township are retired. Sites have neither keys nor addresses.
func Reorganisation() (before, after *tiers.Topology, err error) {
	districts, err := Districts()
	if err != nil {
		return nil, nil, err
	}
	townships, err := Townships()
	if err != nil {
		return nil, nil, err
	}
	moves, err := Reorganised()
	if err != nil {
		return nil, nil, err
	}
	to := map[tiers.SiteID]tiers.SiteID{}
	for _, m := range moves {
		to[m.Township] = m.To
	}
	doc := func(version uint64) tiers.TopologyDoc {
		return tiers.TopologyDoc{Federation: "cq", Version: version, Sites: []tiers.Site{{ID: cityCode, Tier: tiers.TierCity, Name: "重庆市"}}}
	}
	old, next := doc(1), doc(2)
	next.Sites = append(next.Sites, tiers.Site{ID: MergedDistrict, Tier: tiers.TierDistrict, Name: mergedName, Parent: cityCode})
	left := map[tiers.SiteID]bool{}
	for _, t := range townships {
		s := tiers.Site{ID: t.Code, Tier: tiers.TierTownship, Name: t.Name, Parent: t.District}
		old.Sites = append(old.Sites, s)
		if p := to[t.Code]; p != "" {
			s.Parent = p
		}
		left[s.Parent] = true
		next.Sites = append(next.Sites, s)
	}
	for _, d := range districts {
		s := tiers.Site{ID: d.Code, Tier: tiers.TierDistrict, Name: d.Name, Parent: cityCode}
		old.Sites = append(old.Sites, s)
		if left[d.Code] {
			next.Sites = append(next.Sites, s)
		}
	}
	if before, err = tiers.NewTopology(old); err != nil {
		return nil, nil, err
	}
	after, err = before.Succeed(next)
	return before, after, err
}
