package run

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tiermesh/tiermesh/testbed/oracle"
	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/tiers"
)

// downs says which acts take nodes down, and which bring them back.
var (
	downs = []scenario.ActKind{scenario.ActKill, scenario.ActPause, scenario.ActDiskFull, scenario.ActFsyncError}
	ups   = []scenario.ActKind{scenario.ActStart, scenario.ActResume}
)

// act does something to a site's nodes. What takes a site down is noted before it
// is done, what brings it back after, so that nobody waits for a site that cannot
// answer.
func (p *player) act(ctx context.Context, line int, a scenario.Act) error {
	name := fmt.Sprintf("down %s %d", a.Site, a.Node)
	if slices.Contains(downs, a.Kind) {
		p.net.setDown(a.Site, a.Node, true)
		p.net.begin(line, a.String(), name)
	}
	if a.Kind == scenario.ActRestoreBackup {
		p.commands.Away(a.Site)
		defer p.commands.Back(a.Site)
		if err := p.forget(ctx, a.Site); err != nil {
			return err
		}
	}
	if a.Kind == scenario.ActBackup {
		p.backups[a.Site] = time.Now()
	}
	if err := p.w.Act(ctx, a); err != nil {
		return err
	}
	switch {
	case slices.Contains(ups, a.Kind):
		p.net.setDown(a.Site, a.Node, false)
		p.net.end(name)
		if a.Node == 0 {
			for i := range uint32(p.tree.nodesOf(a.Site)) {
				p.net.end(fmt.Sprintf("down %s %d", a.Site, i+1))
			}
		}
	case a.Kind == scenario.ActRestoreBackup:
		p.net.setDown(a.Site, 0, false)
		p.net.begin(line, a.String(), "")
	case !slices.Contains(downs, a.Kind):
		p.net.begin(line, a.String(), "")
	}
	return nil
}

// forget takes out of the ledger what an old disk takes from the world: writes of
// the site since its backup that its parent does not show. That a restored site
// loses those is the nature of a backup, not a broken promise. So are the moves on
// tasks, which nobody can tell to have been shipped, the claims and the units that it
// granted since.
func (p *player) forget(ctx context.Context, id tiers.SiteID) error {
	at := p.backups[id]
	row, _ := p.tree.topology().Site(id)
	var gone []string
	for _, a := range p.ledger.reports() {
		if a.Site != id || a.At.Before(at) {
			continue
		}
		if row.Parent != "" {
			s, err := p.w.Site(row.Parent)
			if err == nil {
				if _, err = s.View(ctx, a.Doc.Kind(), a.Doc.Name()); err == nil {
					continue
				}
			}
		}
		gone = append(gone, a.Key)
	}
	p.ledger.mu.Lock()
	defer p.ledger.mu.Unlock()
	before := len(p.ledger.acked)
	p.ledger.acked = slices.DeleteFunc(p.ledger.acked, func(a oracle.Acked) bool { return slices.Contains(gone, a.Key) })
	p.ledger.reported -= uint64(before - len(p.ledger.acked))
	since := func(a oracle.Acked) bool { return a.Site == id && !a.At.Before(at) }
	p.ledger.moves, p.ledger.others = slices.DeleteFunc(p.ledger.moves, since), slices.DeleteFunc(p.ledger.others, since)
	p.urgent.forget(gone)
	p.claims.giveUp(id)
	p.orders.forget(id)
	return nil
}
