package scenario

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tiermesh/tiermesh/testbed/data"
	"github.com/tiermesh/tiermesh/tiers"
)

// chongqing adds the real city, or some districts of it with some of their
// townships.
func (p *parser) chongqing(words []string) error {
	districts, townships, err := sizes(words)
	if err != nil {
		return err
	}
	all, err := data.Districts()
	if err != nil {
		return err
	}
	ends, err := data.Townships()
	if err != nil {
		return err
	}
	chosen, err := choose(all, districts)
	if err != nil {
		return err
	}
	city := tiers.SiteID("500000")
	if err := p.add(tiers.Site{ID: city, Tier: tiers.TierCity, Name: "重庆市"}); err != nil {
		return err
	}
	for _, d := range chosen {
		if err := p.add(tiers.Site{ID: d.Code, Tier: tiers.TierDistrict, Name: d.Name, Parent: city}); err != nil {
			return err
		}
		n := 0
		for _, t := range ends {
			if t.District != d.Code || n == townships {
				continue
			}
			n++
			if err := p.add(tiers.Site{ID: t.Code, Tier: tiers.TierTownship, Name: t.Name, Parent: d.Code}); err != nil {
				return err
			}
		}
	}
	return nil
}

// sizes reads "districts …" and "townships N"; townships is -1 for all.
func sizes(words []string) (districts []string, townships int, err error) {
	townships = -1
	if len(words) > 0 && words[0] == "districts" {
		words = words[1:]
		n := slices.Index(words, "townships")
		if n < 0 {
			n = len(words)
		}
		if districts, words = words[:n], words[n:]; len(districts) == 0 {
			return nil, 0, errTooFew
		}
	}
	if len(words) > 0 {
		if words[0] != "townships" {
			return nil, 0, fmt.Errorf("%q: want districts or townships", words[0])
		}
		if err := want(words, 2); err != nil {
			return nil, 0, err
		}
		if townships, err = strconv.Atoi(words[1]); err != nil || townships < 0 {
			return nil, 0, fmt.Errorf("%q: want how many townships of each district", words[1])
		}
	}
	return districts, townships, nil
}

// choose returns all districts, the first so many, or those that are named.
func choose(all []data.District, words []string) ([]data.District, error) {
	if len(words) == 0 {
		return all, nil
	}
	if n, err := strconv.Atoi(words[0]); err == nil && len(words) == 1 && n < 1000 {
		if n < 1 || n > len(all) {
			return nil, fmt.Errorf("%d districts: want 1 to %d", n, len(all))
		}
		return all[:n], nil
	}
	var out []data.District
	for _, w := range words {
		i := slices.IndexFunc(all, func(d data.District) bool { return string(d.Code) == w })
		if i < 0 {
			return nil, fmt.Errorf("no district %q: want %s", w, listOf(all))
		}
		out = append(out, all[i])
	}
	return out, nil
}

func listOf(all []data.District) string {
	var codes []string
	for _, d := range all {
		codes = append(codes, string(d.Code))
	}
	return strings.Join(codes, ", ")
}
