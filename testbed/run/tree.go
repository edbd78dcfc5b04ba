package run

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/testbed/data"
	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/tiers"
)

// tree is the topology in force, as the script made it.
type tree struct {
	nodes map[tiers.SiteID]int

	mu  sync.Mutex // guards now
	now *tiers.Topology
}

func newTree(t *tiers.Topology) *tree {
	n := map[tiers.SiteID]int{}
	for _, r := range t.Sites() {
		n[r.ID] = len(r.Nodes)
	}
	return &tree{nodes: n, now: t}
}

func (t *tree) topology() *tiers.Topology {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.now
}

func (t *tree) rows() []tiers.Site { return t.topology().Sites() }

func (t *tree) city() tiers.SiteID { return t.topology().City() }

func (t *tree) nodesOf(id tiers.SiteID) int { return max(t.nodes[id], 1) }

// treeLink is a site and its parent.
type treeLink struct{ child, parent tiers.SiteID }

// links returns the links of the tree, without retired sites.
func (t *tree) links() []treeLink {
	var out []treeLink
	for _, r := range t.rows() {
		if r.Parent != "" && !r.Retired {
			out = append(out, treeLink{r.ID, r.Parent})
		}
	}
	return out
}

// reparent publishes a topology in which one site has another parent.
func (p *player) reparent(ctx context.Context, line int, c scenario.Reparent) error {
	doc := p.tree.topology().Doc()
	doc.Sites = slices.Clone(doc.Sites)
	for i := range doc.Sites {
		if doc.Sites[i].ID == c.Site {
			doc.Sites[i].Parent = c.Under
		}
	}
	return p.publishTopology(ctx, line, c.String(), doc)
}

// reorganise publishes the real reorganisation, as far as its sites are there.
// Districts that it leaves without townships end.
func (p *player) reorganise(ctx context.Context, line int) error {
	moves, err := data.Reorganised()
	if err != nil {
		return err
	}
	doc := p.tree.topology().Doc()
	doc.Sites = slices.Clone(doc.Sites)
	here := func(id tiers.SiteID) int {
		return slices.IndexFunc(doc.Sites, func(r tiers.Site) bool { return r.ID == id && !r.Retired })
	}
	left := map[tiers.SiteID]bool{}
	for _, m := range moves {
		if i := here(m.Township); i >= 0 && here(m.To) >= 0 {
			left[doc.Sites[i].Parent] = true
			doc.Sites[i].Parent = m.To
		}
	}
	if len(left) == 0 {
		return fmt.Errorf("none of the %d townships and their new districts is here: build %s and its townships", len(moves), data.MergedDistrict)
	}
	for _, r := range doc.Sites {
		delete(left, r.Parent)
	}
	doc.Sites = slices.DeleteFunc(doc.Sites, func(r tiers.Site) bool { return left[r.ID] })
	return p.publishTopology(ctx, line, "reorganise", doc)
}

func (p *player) publishTopology(ctx context.Context, line int, what string, doc tiers.TopologyDoc) error {
	before := p.tree.topology()
	doc.Version = before.Version() + 1
	p.net.begin(line, what, "")
	own := doc // Succeed keeps what it is given, and so may the city
	own.Sites = slices.Clone(doc.Sites)
	next, err := before.Succeed(own)
	if err != nil {
		return err
	}
	err = p.insist(ctx, p.tree.city(), func(s Site) error {
		_, err := s.PublishTopology(ctx, api.TopologyRequest{Key: fmt.Sprintf("line-%d", line), Topology: doc})
		return err
	})
	if err != nil {
		return err
	}
	p.tree.mu.Lock()
	p.tree.now = next
	p.tree.mu.Unlock()
	return nil
}
