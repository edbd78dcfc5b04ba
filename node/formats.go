package node

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/replication"
)

const (
	// formatsEvery is how often a leader asks its members which formats they read, while
	// the site's could rise.
	formatsEvery = 10 * time.Second
	// compareEvery is how often the nodes of a site compare what they hold, where
	// anything was written.
	compareEvery = time.Minute
	// comparedWait is how long a member may take to come to the entry at which nodes
	// compare, comparedPoll how often it is asked.
	comparedWait = 5 * time.Second
	comparedPoll = 50 * time.Millisecond
)

// formats is what a leader knows of its members' builds and states.
type formats struct {
	asked    time.Time // when they were asked last
	since    time.Time // since when all read more than the site's format; zero while not
	compared time.Time // when they compared last
	at       uint64    // the entry at which they did
}

// follow raises the site's format when all members could read it for long enough, and
// has the nodes compare what they hold, when it is time for either.
func (m *memberLoop) follow(ctx context.Context) {
	now := m.n.opts.Now()
	if reads, site := m.n.group.Formats(); site < reads && now.Sub(m.known.asked) >= formatsEvery {
		m.known.asked = now
		m.rise(ctx, now)
	}
	if m.n.nodeCount() > 1 && now.Sub(m.known.compared) >= compareEvery && m.n.group.Progress().Applied > m.known.at {
		m.known.compared = now
		c, err := m.n.compareNodes(ctx)
		if err != nil {
			m.n.log.Debug("nodes not compared", "err", err)
			return
		}
		m.known.at = c.at
		for _, text := range c.findings() {
			m.n.log.Error("a node of the site is not as the others", "text", text)
			m.n.alarms.raise(alarmMember, text, text)
		}
		if i := slices.IndexFunc(c.agree, func(x compared) bool { return x.voter }); c.selfDiffers && i >= 0 {
			m.n.log.Warn("handing the leadership to a node that holds what most do", "peer", c.agree[i].id)
			if err := m.n.group.Transfer(c.agree[i].id); err != nil {
				m.n.log.Warn("leadership not handed over", "err", err)
			}
		}
	}
}

// rise raises the format by itself, unless the configuration leaves that to people.
func (m *memberLoop) rise(ctx context.Context, now time.Time) {
	wait, byItself := m.n.config().upgradeAfter()
	to, err := m.n.commonFormat(ctx)
	switch _, site := m.n.group.Formats(); {
	case err != nil || to <= site:
		m.known.since = time.Time{}
		return
	case m.known.since.IsZero():
		m.known.since = now
	}
	if byItself && now.Sub(m.known.since) >= wait {
		if err := m.n.raiseFormat(ctx); err != nil {
			m.n.log.Warn("format not raised", "err", err)
		}
	}
}

// commonFormat returns the newest format that every member reads. The error names
// the member that does not say.
func (n *Node) commonFormat(ctx context.Context) (uint32, error) {
	members, err := n.group.Members()
	if err != nil {
		return 0, err
	}
	out, _ := n.group.Formats()
	for _, m := range members {
		if m.ID == n.group.ID() {
			continue
		}
		info, err := n.ask(ctx, m.Node, m.Addr)
		if err == nil && info.ID != m.ID {
			err = fmt.Errorf("%w: node %d has another disk now: %s", replication.ErrMember, m.Node, info.ID)
		}
		if err != nil {
			return 0, fmt.Errorf("node %d (%s) does not say which formats it reads: %w", m.Node, m.ID, err)
		}
		out = min(out, max(info.Format, 1)) // builds before there were numbers do not say
	}
	return out, nil
}

// raiseFormat raises the site's format to the newest that every member reads. The error
// wraps [replication.ErrFormat] when a member's build holds it back.
func (n *Node) raiseFormat(ctx context.Context) error {
	to, err := n.commonFormat(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", api.ErrUnavailable, err)
	}
	reads, site := n.group.Formats()
	if to <= site && site < reads {
		return fmt.Errorf("%w: the site's format stays at %d: a member reads no newer one (tiermesh raft members): install this build there first", replication.ErrFormat, site)
	}
	if err := n.group.Raise(ctx, to); err != nil {
		return err
	}
	if to > site {
		n.log.Info("the site's format has risen: builds that do not read it cannot come back", "from", site, "to", to)
	}
	return nil
}

// reads refuses a node whose build cannot read the site's format. The error wraps
// [replication.ErrFormat].
func (n *Node) reads(info api.NodeInfo) error {
	if _, site := n.group.Formats(); max(info.Format, 1) < site {
		return fmt.Errorf("%w: node %d (%s) reads up to format %d, the site's is %d: install this build there", replication.ErrFormat, info.Node, info.ID, max(info.Format, 1), site)
	}
	return nil
}

// compared is a member and what it held at the entry at which nodes compared.
type compared struct {
	id     string
	node   uint32
	voter  bool
	digest string
}

// comparison is what a site's nodes held at one log entry.
type comparison struct {
	at uint64
	// agree are those of the largest group that hold the same, if that is more than
	// half of those who said; differ the others. silent did not say.
	agree, differ []compared
	silent        []string
	older         []string // what to do about builds that cannot read the site's format
	selfDiffers   bool
}

// compareNodes has the site's nodes compare what they hold at one log entry. The error
// wraps [replication.ErrFormat] while the site's format has no such entry.
func (n *Node) compareNodes(ctx context.Context) (comparison, error) {
	own, err := n.group.Compare(ctx)
	if err != nil {
		return comparison{}, err
	}
	members, err := n.group.Members()
	if err != nil {
		return comparison{}, err
	}
	c := comparison{at: own.Index}
	by := map[string][]compared{}
	for _, m := range members {
		x := compared{id: m.ID, node: m.Node, voter: m.Voter, digest: hex.EncodeToString(own.Digest[:])}
		if m.ID != n.group.ID() {
			if x.digest, err = n.comparedAt(ctx, m, own.Index); err != nil {
				c.silent = append(c.silent, m.ID)
				if errors.Is(err, replication.ErrFormat) {
					c.older = append(c.older, err.Error())
				}
				continue
			}
		}
		by[x.digest] = append(by[x.digest], x)
	}
	said := len(members) - len(c.silent)
	for digest, group := range by {
		if 2*len(group) > said {
			c.agree = group
			continue
		}
		c.differ = append(c.differ, group...)
		c.selfDiffers = c.selfDiffers || digest == hex.EncodeToString(own.Digest[:])
	}
	slices.SortFunc(c.differ, func(a, b compared) int { return strings.Compare(a.id, b.id) })
	c.selfDiffers = c.selfDiffers && len(c.agree) > 0
	return c, nil
}

// comparedAt returns what a member held at an entry.
func (n *Node) comparedAt(ctx context.Context, m replication.Member, at uint64) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, comparedWait)
	defer cancel()
	for {
		info, err := n.ask(ctx, m.Node, m.Addr)
		if err == nil {
			err = n.reads(info)
		}
		switch {
		case err != nil:
			return "", err
		case info.ID == m.ID && info.ComparedAt == at:
			return info.ComparedDigest, nil
		case info.ComparedAt > at || info.ID != m.ID:
			return "", fmt.Errorf("%w: %s says nothing of entry %d any more", api.ErrUnavailable, m.ID, at)
		}
		select {
		case <-time.After(comparedPoll):
		case <-ctx.Done():
			return "", context.Cause(ctx)
		}
	}
}

// findings says how the nodes differ, one text for each that does.
func (c comparison) findings() []string {
	out := slices.Clone(c.older)
	var most []string
	for _, x := range c.agree {
		most = append(most, fmt.Sprint(x.node))
	}
	for _, x := range c.differ {
		if len(most) == 0 {
			out = append(out, fmt.Sprintf("node %d (%s) holds other data than the site's other nodes, and no more than half hold the same: run tiermesh scrub at each", x.node, x.id))
			continue
		}
		out = append(out, fmt.Sprintf("node %d (%s) holds other data than nodes %s, which hold the same: run there: tiermesh repair", x.node, x.id, strings.Join(most, ", ")))
	}
	return out
}

// takesOver refuses to hand the leadership to a member that cannot read the site's
// format, holds other data than most nodes, or does not say. It returns who takes it:
// for "", the member that is furthest among those that may.
func (n *Node) takesOver(ctx context.Context, id string) (string, error) {
	members, err := n.group.Members()
	if err != nil {
		return "", err
	}
	c, err := n.compareNodes(ctx)
	old := errors.Is(err, replication.ErrFormat) // a site that cannot compare yet
	if err != nil && !old {
		return "", err
	}
	best, furthest := "", uint64(0)
	for _, m := range members {
		if m.ID == n.group.ID() || !m.Voter || id != "" && m.ID != id {
			continue
		}
		info, err := n.ask(ctx, m.Node, m.Addr)
		if err == nil {
			err = n.reads(info)
		} else {
			err = fmt.Errorf("%w: %s does not answer: %w", api.ErrUnavailable, m.ID, err)
		}
		if err == nil && !old && slices.Contains(c.silent, m.ID) {
			err = fmt.Errorf("%w: %s is behind: let it catch up first", api.ErrUnavailable, m.ID)
		}
		if i := slices.IndexFunc(c.differ, func(x compared) bool { return x.id == m.ID }); err == nil && i >= 0 && !c.selfDiffers {
			err = fmt.Errorf("%w: %s", replication.ErrMember, strings.Join(comparison{agree: c.agree, differ: c.differ[i : i+1]}.findings(), ""))
		}
		switch {
		case err != nil && id != "":
			return "", err
		case err == nil && (best == "" || info.Last > furthest):
			best, furthest = m.ID, info.Last
		}
	}
	if best == "" {
		best = id // Raft says why it may not
	}
	return best, nil
}
