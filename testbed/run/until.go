package run

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/tiers"
)

// until waits for a condition.
func (p *player) until(ctx context.Context, c scenario.Until) error {
	began, limited := time.Now(), ctx
	ctx, cancel := context.WithTimeout(ctx, p.pace().within(c.Within))
	defer cancel()
	look := p.look(c)
	every := pollEvery(len(p.tree.rows()))
	why := "it was not looked for"
	for {
		got, now := look(ctx)
		if got {
			took := time.Since(began)
			p.mu.Lock()
			if c.What == scenario.Converged {
				p.data.Count.ConvergeS = took.Seconds()
			}
			if p.o.RealTime && took > c.Within {
				p.data.Count.Late = append(p.data.Count.Late, fmt.Sprintf("%s: it took %s", c, took.Round(time.Millisecond)))
			}
			p.mu.Unlock()
			if c.What == scenario.Converged {
				p.judge.rested()
			}
			return nil
		}
		if ctx.Err() == nil {
			why = now
		}
		if err := p.broken(); err != nil {
			return err
		}
		if wait(ctx, every) == nil {
			continue
		}
		if limited.Err() != nil {
			return fmt.Errorf("%w: %s", context.Cause(limited), why)
		}
		return fmt.Errorf("not in time: %s", why)
	}
}

// pollEvery spares a big federation that is asked again and again.
func pollEvery(sites int) time.Duration {
	return 20*time.Millisecond + time.Duration(sites)*time.Millisecond
}

func (p *player) look(c scenario.Until) func(context.Context) (bool, string) {
	switch c.What {
	case scenario.Acknowledged:
		return func(context.Context) (bool, string) {
			n := p.ledger.waiting()
			return n == 0, fmt.Sprintf("%d reports are not acknowledged", n)
		}
	case scenario.Linked:
		return func(ctx context.Context) (bool, string) {
			why := newPass(p).link(ctx, treeLink{c.A, c.B})
			return why == "", why
		}
	case scenario.Shown:
		return func(ctx context.Context) (bool, string) {
			got, holds, err := p.named(ctx, c.Seen)
			if err != nil {
				return false, err.Error()
			}
			return holds, fmt.Sprintf("it is %s", got)
		}
	default:
		return p.converging()
	}
}

// converging returns a function that says whether every link that can be is proven
// equal at both ends and every view is up to date, and if not what lacks. It
// begins where it failed last: that is where it is likely to fail again.
func (p *player) converging() func(context.Context) (bool, string) {
	start := 0
	return func(ctx context.Context) (bool, string) {
		links := p.tree.links()
		pass := newPass(p)
		for i := range links {
			at := (start + i) % len(links)
			if p.net.blocked(links[at].child, links[at].parent) {
				continue
			}
			if why := pass.link(ctx, links[at]); why != "" {
				start = at
				return false, why
			}
		}
		return true, ""
	}
}

// pass asks each site at most once.
type pass struct {
	p    *player
	seen map[tiers.SiteID]api.Status
}

func newPass(p *player) *pass { return &pass{p: p, seen: map[tiers.SiteID]api.Status{}} }

func (s *pass) status(ctx context.Context, id tiers.SiteID) (api.Status, error) {
	if st, ok := s.seen[id]; ok {
		return st, nil
	}
	site, err := s.p.w.Site(id)
	if err != nil {
		return api.Status{}, err
	}
	st, err := site.Status(ctx)
	if err == nil {
		s.seen[id] = st
	}
	return st, err
}

// connected says what keeps two sites from being linked, or "".
func (s *pass) connected(ctx context.Context, l treeLink) string {
	for _, at := range []treeLink{l, {l.parent, l.child}} {
		st, err := s.status(ctx, at.child)
		if err != nil {
			return fmt.Sprintf("site %s: %v", at.child, err)
		}
		if state := linkOf(st, at.parent).State; state != "connected" {
			return fmt.Sprintf("link %s to %s is %s", at.child, at.parent, state)
		}
	}
	return ""
}

// link says what a link lacks to be equal, or "".
func (s *pass) link(ctx context.Context, l treeLink) string {
	version := s.p.tree.topology().Version()
	var ends [2]api.LinkStatus
	for i, at := range []treeLink{l, {l.parent, l.child}} {
		st, err := s.status(ctx, at.child)
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			return fmt.Sprintf("site %s does not answer", at.child)
		case err != nil:
			return fmt.Sprintf("site %s: %v", at.child, err)
		case st.TopologyVersion < version:
			return fmt.Sprintf("site %s has topology %d of %d", at.child, st.TopologyVersion, version)
		case st.ViewsDirty > 0:
			return fmt.Sprintf("site %s has %d views to bring up to date", at.child, st.ViewsDirty)
		}
		ends[i] = linkOf(st, at.parent)
		if ends[i].State != "connected" || !ends[i].Equal {
			return fmt.Sprintf("link %s to %s is %s, equal %v, owes %d out and %d in; last error %q",
				at.child, at.parent, ends[i].State, ends[i].Equal, ends[i].OwedOut, ends[i].OwedIn, ends[i].LastError)
		}
	}
	if ends[0].Digest != ends[1].Digest {
		return fmt.Sprintf("link %s to %s: the two ends show different digests", l.child, l.parent)
	}
	return ""
}

func linkOf(st api.Status, peer tiers.SiteID) api.LinkStatus {
	for _, l := range st.Links {
		if l.Peer == peer {
			return l
		}
	}
	return api.LinkStatus{Peer: peer, State: "down"}
}
