package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/transport"
	"github.com/tiermesh/tiermesh/transport/identity"
)

// repair mends this node's store in place from another node of its site, while
// it runs; with nothing damaged it does nothing. from names a member to copy;
// empty takes one that others agree with.
func (n *Node) repair(ctx context.Context, from string) (out api.RepairReport, err error) {
	own, err := n.group.Store().Scrub(ctx)
	if err != nil {
		return out, err
	}
	snapshots, err := n.group.ScrubSnapshots(ctx)
	if err != nil {
		return out, err
	}
	differ := n.compare(ctx)
	found := slices.Concat(own.Findings, snapshots, differ)
	out.Before, out.After, out.Records = scrubFindings(found), []api.ScrubFinding{}, own.Records
	switch {
	case len(found) == 0 && from == "":
		return out, nil
	case len(own.Findings)+len(differ) == 0 && from == "":
		info, err := n.group.RepairSnapshots(ctx, found)
		out.From, out.Index, out.Kept = n.group.ID(), info.Index, info.Kept
		return n.repaired(ctx, out, err)
	}
	sources, err := n.sources(ctx, from)
	if err != nil {
		return out, err
	}
	if from == "" && len(own.Findings) == 0 && len(sources) == 1 {
		return out, fmt.Errorf("%w: %s; its own store is sound, and nobody else answers to tell which one is wrong: say whom to copy with --from", api.ErrRejected, differ[0])
	}
	if n.group.Leads() {
		// Somebody else leads meanwhile: entries wait while the store is exchanged.
		if err := n.group.Transfer(""); err != nil {
			n.log.Warn("leadership not handed over before a repair", "err", err)
		}
	}
	for _, m := range sources {
		info, failed := n.copyFrom(ctx, m, found)
		if failed == nil {
			out.From, out.Index, out.Kept = m.ID, info.Index, info.Kept
			return n.repaired(ctx, out, nil)
		}
		n.log.Warn("no repair from a node", "peer", m.ID, "err", failed)
		err = errors.Join(err, fmt.Errorf("from %s: %w", m.ID, failed))
		if ctx.Err() != nil {
			break
		}
	}
	return out, err
}

// repaired scrubs again, once Raft has caught up with what the store reflects.
func (n *Node) repaired(ctx context.Context, out api.RepairReport, err error) (api.RepairReport, error) {
	if err != nil {
		return out, err
	}
	n.log.Warn("store repaired", "from", out.From, "index", out.Index, "kept", out.Kept)
	for deadline := n.opts.Now().Add(leaderWait); n.group.Progress().Applied < out.Index && n.opts.Now().Before(deadline); {
		select {
		case <-time.After(comparePause):
		case <-ctx.Done():
			return out, context.Cause(ctx)
		}
	}
	after, err := n.scrub(ctx)
	out.After, out.Records = scrubFindings(after.Findings), after.Records
	n.alarms.raise(alarmRepair, out.From, fmt.Sprintf("the store was repaired from %s: %d findings before, %d after; what was damaged is in %s",
		out.From, len(out.Before), len(out.After), out.Kept))
	return out, err
}

// copyFrom streams a copy of a member's store into a repair.
func (n *Node) copyFrom(ctx context.Context, m replication.Member, findings []store.Finding) (replication.RepairInfo, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := n.sibling(m.Node, m.Addr)
	defer c.Close()
	r := stream(ctx, c)
	defer func() { _ = r.Close() }()
	return n.group.Repair(ctx, r, findings)
}

// stream returns a node's backup as a reader.
func stream(ctx context.Context, c *api.Client) io.ReadCloser {
	r, w := io.Pipe()
	go func() { w.CloseWithError(c.Backup(ctx, w)) }() // ends with the copy, ctx, or Close
	return r
}

// sources are the members to copy from, in the order in which to try them: the
// leader first, since nobody is ahead of it. Members that hold different things
// are none of them, unless the operator says which.
func (n *Node) sources(ctx context.Context, from string) ([]replication.Member, error) {
	if from != "" {
		m, err := site{n}.member(from)
		if err == nil && m.ID == n.group.ID() {
			err = fmt.Errorf("%w: %s is this node", api.ErrInvalid, from)
		}
		return []replication.Member{m}, err
	}
	members, err := n.group.Members()
	if err != nil {
		return nil, err
	}
	var out []replication.Member
	for _, m := range members {
		if m.ID == n.group.ID() {
			continue
		}
		if info, err := n.ask(ctx, m.Node, m.Addr); err == nil && info.ID == m.ID {
			out = append(out, m)
		}
	}
	if len(out) == 0 && len(members) < 2 {
		return nil, fmt.Errorf("%w: this site has one node: end it and run: tiermesh salvage --config FILE --confirm %s", api.ErrRejected, n.creds.ID.Site)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: no other node answers: start one; when all are damaged run tiermesh salvage at the best of them", api.ErrUnavailable)
	}
	for _, m := range out[1:] {
		first := out[0]
		what := n.unequal(ctx, m, func() (api.NodeInfo, error) { return n.ask(ctx, first.Node, first.Addr) })
		if what != "" {
			return nil, fmt.Errorf("%w: the other nodes do not agree: %s; say whom to copy with --from", api.ErrRejected, what)
		}
	}
	slices.SortStableFunc(out, func(a, b replication.Member) int {
		switch {
		case a.Leader == b.Leader:
			return 0
		case a.Leader:
			return -1
		default:
			return 1
		}
	})
	return out, nil
}

func scrubFindings(in []store.Finding) []api.ScrubFinding {
	out := make([]api.ScrubFinding, len(in))
	for i, f := range in {
		out[i] = api.ScrubFinding(f)
	}
	return out
}

// RepairDown repairs the store of a node that is down: from its own snapshot and
// log where these suffice, or else from another node of its site that runs, as
// the bootstrap topology lists them. from is a node's number, 0 for any. It
// returns what was found before, and from whom the store is now. The error wraps
// [replication.ErrRepair] when nothing is damaged or nobody could help.
func RepairDown(ctx context.Context, cfg Config, opts Options, from uint32) (found []store.Finding, info replication.RepairInfo, source string, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, info, "", err
	}
	opts = opts.withDefaults()
	creds, err := identity.Load(cfg.Credentials)
	if err != nil {
		return nil, info, "", err
	}
	rc := replication.RepairConfig{
		RecoverConfig: replication.RecoverConfig{Dir: cfg.Dir, Federation: creds.ID.Federation, Site: creds.ID.Site}, Now: opts.Now(),
	}
	if found, err = replication.Inspect(ctx, rc); err != nil {
		return found, info, "", err
	}
	if len(found) == 0 && from == 0 {
		return found, info, "", fmt.Errorf("%w: nothing is damaged in %s", replication.ErrRepair, cfg.Dir)
	}
	if from == 0 {
		info, err = replication.Mend(ctx, rc, found)
		if err == nil {
			return found, info, "its own snapshot and log", nil
		}
		if !errors.Is(err, replication.ErrRepair) {
			return found, info, "", err
		}
	}
	info, source, failed := copyDown(ctx, cfg, opts, creds, rc, found, from)
	if failed != nil {
		return found, info, "", errors.Join(err, failed)
	}
	return found, info, source, nil
}

// copyDown copies the store of a node that runs, for one that is down.
func copyDown(ctx context.Context, cfg Config, opts Options, creds *identity.Credentials, rc replication.RepairConfig, found []store.Finding, from uint32) (info replication.RepairInfo, source string, err error) {
	topology, err := readTopology(cfg.Topology)
	if err != nil {
		return info, "", err
	}
	self, _ := topology.Site(creds.ID.Site)
	if len(self.Nodes) < 2 {
		return info, "", fmt.Errorf("%w: this site has one node: run tiermesh salvage --config FILE --confirm %s", replication.ErrRepair, self.ID)
	}
	id, err := replication.ServerID(cfg.Dir)
	if err != nil {
		return info, "", err
	}
	conn, err := transport.ListenUDP(":0")
	if err != nil {
		return info, "", err
	}
	e, err := transport.Open(transport.Config{Conn: conn, Credentials: creds, Logger: opts.Logger})
	if err != nil {
		return info, "", errors.Join(err, conn.Close())
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	err = fmt.Errorf("%w: no other node of the site helped", replication.ErrRepair)
	for _, at := range self.Nodes {
		if at.Node == creds.ID.Node || from != 0 && at.Node != from {
			continue
		}
		c := nodeClient(e, at)
		info, failed := copyMember(ctx, c, id, rc, found)
		c.Close()
		if failed == nil {
			return info, fmt.Sprintf("node %d", at.Node), nil
		}
		err = errors.Join(err, fmt.Errorf("node %d at %s: %w", at.Node, at.Addr, failed))
	}
	return info, "", err
}

// copyMember copies a node's store when the disk to repair belongs to its group.
func copyMember(ctx context.Context, c *api.Client, id string, rc replication.RepairConfig, found []store.Finding) (info replication.RepairInfo, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	members, err := c.Members(ctx)
	if err != nil {
		return info, err
	}
	if !slices.ContainsFunc(members, func(m api.MemberStatus) bool { return m.ID == id }) {
		return info, fmt.Errorf("%w: %s is no member of its group: empty the directory and let the node join", replication.ErrRepair, id)
	}
	r := stream(ctx, c)
	defer func() { _ = r.Close() }()
	return replication.Repair(ctx, rc, r, found)
}
