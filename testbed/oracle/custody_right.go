package oracle

import (
	"cmp"
	"slices"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
)

// takings are the signatures and overrides of a task.
type takings struct {
	deps map[crdt.Hash][]crdt.Hash
	all  []signed
}

// byRight says who has a task by right, and whose takes lost to his. Of the takes
// that no other one saw, an override comes before a signature, that of a higher site
// before that of a lower one, then the earlier one, then the site's code; who signed
// after another has that one's right. Plain is false for a task of which that does not
// follow so simply: custody was returned, or its end and a take crossed.
func byRight(deps map[crdt.Hash][]crdt.Hash, acts, all []signed) (best signed, losers []signed, plain bool) {
	if len(all) == 0 {
		return best, nil, false
	}
	t := takings{deps, all}
	for _, a := range acts {
		switch a.Kind {
		case dispatch.ActionReturn:
			return best, nil, false
		case dispatch.ActionClose, dispatch.ActionVoid, dispatch.ActionMerge, dispatch.ActionEvaluate:
			if slices.ContainsFunc(all, func(s signed) bool { return !t.saw(a, s) && !t.saw(s, a) }) {
				return best, nil, false
			}
		}
	}
	best = t.best(all)
	for _, s := range t.last(all) {
		if s.By != best.By {
			losers = append(losers, s)
		}
	}
	return best, losers, true
}

func (t takings) saw(later, earlier signed) bool {
	return later.in != earlier.in && follows(t.deps, later.in, earlier.in)
}

// last returns those of some takes that no other one of them saw.
func (t takings) last(of []signed) []signed {
	return slices.DeleteFunc(slices.Clone(of), func(s signed) bool {
		return slices.ContainsFunc(of, func(x signed) bool { return t.saw(x, s) })
	})
}

// best returns the one of some takes that has the best right.
func (t takings) best(of []signed) signed {
	return slices.MinFunc(t.last(of), func(a, b signed) int {
		x, y := t.root(a), t.root(b)
		return cmp.Or(cmp.Compare(strength(x), strength(y)), cmp.Compare(x.At, y.At), cmp.Compare(x.By, y.By), cmp.Compare(a.At, b.At), cmp.Compare(a.By, b.By))
	})
}

// root returns the take whose right another one has.
func (t takings) root(s signed) signed {
	past := slices.DeleteFunc(slices.Clone(t.all), func(x signed) bool { return !t.saw(s, x) })
	if s.Kind == dispatch.ActionOverride || len(past) == 0 {
		return s
	}
	return t.root(t.best(past))
}

// strength is lower the better a take is: overrides by tier, then all signatures.
func strength(s signed) int {
	if s.Kind == dispatch.ActionOverride {
		return int(s.Tier)
	}
	return 1 << 10
}

// told checks that a view tells who lost a task to stand down, until he has.
func (v *Verdict) told(k store.DocKey, site Site, acts, losers []signed, shown signers) {
	for _, l := range losers {
		told := slices.ContainsFunc(shown.view.StandDown, func(s dispatch.StandDown) bool { return s.Site == l.By })
		did := slices.ContainsFunc(acts, func(a signed) bool { return a.By == l.By && a.Kind == dispatch.ActionStandDown })
		if !told && !did {
			v.violate("%s: %s lost it, and its view at %s does not tell it to stand down", k, l.By, site.ID)
		}
	}
}
