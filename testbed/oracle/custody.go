package oracle

import (
	"encoding/json"
	"errors"
	"slices"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/crdt/engine"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/dispatch"
)

// Custody checks the histories of the tasks that the sites hold. A site takes
// custody of a task when it signs for it, or overrides. When one does whose change
// saw that another had, that is a handover, and the later one is the custodian. When
// neither saw the other, the task has two custodians: then the view must show both,
// or name both sites in a conflict, and give effect to at most one. Whom it names as
// the custodian has taken it, and nobody takes it in another site's name. Where no
// custody was returned and no end crossed a take, it names whom the right gives it to,
// and tells the others to stand down.
func Custody(sites []Site) Verdict {
	v := Verdict{Oracle: "custody"}
	e := engine.New()
	type history struct {
		key     store.DocKey
		records crdt.Hash
	}
	seen := map[history]bool{} // the same records give the same view: SameViews
	for _, site := range sites {
		err := site.Store.Documents(func(k store.DocKey) error {
			if k.Doc.Kind() != dispatch.KindTask {
				return nil
			}
			h, err := site.Store.Changes(k)
			if errors.Is(err, store.ErrNotFound) {
				return nil
			}
			if err != nil {
				return err
			}
			if at := (history{k, recordsHash(h)}); !seen[at] {
				seen[at] = true
				v.custodians(e, site, k, h)
			}
			return nil
		})
		if err != nil {
			v.unread("a task", site.ID, err)
		}
	}
	return v
}

// signed is one action on a task, a signature above all, and the change that holds it.
type signed struct {
	dispatch.Action
	in crdt.Hash
}

// custodians checks one task.
func (v *Verdict) custodians(e *engine.Engine, site Site, k store.DocKey, h *store.Changes) {
	v.Checked++
	doc, err := e.Read(h.Raw)
	if err != nil {
		v.unread(k, site.ID, err)
		return
	}
	authors, deps := map[crdt.Hash]tiers.SiteID{}, map[crdt.Hash][]crdt.Hash{}
	for i, c := range doc.Changes {
		authors[c.Hash], deps[c.Hash] = h.Authors[i].Site, c.Deps
	}
	acts := actions(doc)
	all := slices.DeleteFunc(slices.Clone(acts), func(s signed) bool { return !s.Takes() })
	for _, s := range all {
		if author := authors[s.in]; author != s.By {
			v.violate("%s: %s signed for it in the name of %s", k, author, s.By)
		}
	}
	own := slices.DeleteFunc(slices.Clone(all), func(s signed) bool { return authors[s.in] != s.By })
	var shown signers
	if len(all) > 0 {
		if err := shown.of(site, k); err != nil {
			v.unread(k, site.ID, err)
			return
		}
	}
	c := shown.view.Custodian
	if best, losers, plain := byRight(deps, acts, own); plain && c != best.By && slices.ContainsFunc(all, func(s signed) bool { return s.By == c }) {
		v.violate("%s: its view at %s names %s, and it is %s's by right", k, site.ID, c, best.By)
	} else if plain {
		v.told(k, site, acts, losers, shown)
	}
	if c != "" && !slices.ContainsFunc(all, func(s signed) bool { return s.By == c }) {
		v.violate("%s: its view at %s names %s, which has not signed for it", k, site.ID, c)
	}
	for i, a := range all {
		for _, b := range all[:i] {
			if a.By == b.By || follows(deps, a.in, b.in) || follows(deps, b.in, a.in) {
				continue
			}
			switch {
			case !shown.both(a, b):
				v.violate("%s: %s and %s signed for it and neither saw the other, which its view at %s hides", k, b.By, a.By, site.ID)
			case shown.effective(a) && shown.effective(b):
				v.violate("%s: %s and %s signed for it and neither saw the other, and both have it in its view at %s", k, b.By, a.By, site.ID)
			}
		}
	}
}

// actions lists a task's actions.
func actions(doc *crdt.Document) (out []signed) {
	lists := doc.Root.Field("actions")
	if len(lists) == 0 {
		return nil
	}
	for _, it := range lists[0].Node.Items {
		var a dispatch.Action
		text, _ := it.Node.Scalar.(string)
		if json.Unmarshal([]byte(text), &a) != nil {
			continue
		}
		if c, known := doc.ChangeOf(it); known {
			out = append(out, signed{a, c.Hash})
		}
	}
	return out
}

// follows reports whether one change saw another.
func follows(deps map[crdt.Hash][]crdt.Hash, later, earlier crdt.Hash) bool {
	seen := map[crdt.Hash]bool{}
	for open := []crdt.Hash{later}; len(open) > 0; {
		h := open[len(open)-1]
		open = open[:len(open)-1]
		if h == earlier {
			return true
		}
		if !seen[h] {
			seen[h] = true
			open = append(open, deps[h]...)
		}
	}
	return false
}

// signers is what a task's view shows of who signed.
type signers struct {
	view struct {
		Custodian tiers.SiteID         `json:"custodian"`
		Actions   []dispatch.Step      `json:"actions"`
		StandDown []dispatch.StandDown `json:"stand_down"`
		Conflicts []struct {
			Values []struct {
				Site tiers.SiteID `json:"site"`
			} `json:"values"`
		} `json:"conflicts"`
	}
}

func (s *signers) of(site Site, k store.DocKey) error {
	view, err := site.View(k)
	if err != nil {
		return err
	}
	return json.Unmarshal(view.JSON, &s.view)
}

// effective reports whether the view gives effect to a signature.
func (s *signers) effective(a signed) bool {
	return slices.ContainsFunc(s.view.Actions, func(x dispatch.Step) bool {
		return x.Takes() && x.By == a.By && x.At == a.At && x.Overruled == ""
	})
}

// both reports whether the view shows both signatures, or a conflict of the two.
func (s *signers) both(a, b signed) bool {
	var seesA, seesB bool
	for _, x := range s.view.Actions {
		seesA = seesA || x.Takes() && x.By == a.By && x.At == a.At
		seesB = seesB || x.Takes() && x.By == b.By && x.At == b.At
	}
	if seesA && seesB {
		return true
	}
	for _, c := range s.view.Conflicts {
		seesA, seesB = false, false
		for _, x := range c.Values {
			seesA, seesB = seesA || x.Site == a.By, seesB || x.Site == b.By
		}
		if seesA && seesB {
			return true
		}
	}
	return false
}
