package node

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/transport"
)

const (
	// memberTick is how often a leader looks for nodes to add and to promote.
	memberTick = 500 * time.Millisecond
	// memberTimeout bounds a question to another node.
	memberTimeout = 2 * time.Second
	// leaderWait is how long a request waits for the site to have a leader.
	leaderWait = 5 * time.Second
)

// raftStreams are the endpoint's streams for Raft.
type raftStreams struct {
	net.Listener
	nodes *transport.Nodes
}

// Dial implements [replication.Streams].
func (s raftStreams) Dial(ctx context.Context, node uint32, addr string) (net.Conn, error) {
	return s.nodes.Dial(ctx, transport.KindRaft, node, addr)
}

// address returns where a node of this site listens, as the topology says.
func (n *Node) address(node uint32) (string, bool) {
	self, _ := n.Topology().Site(n.creds.ID.Site)
	i := slices.IndexFunc(self.Nodes, func(a tiers.NodeAddr) bool { return a.Node == node })
	if i < 0 {
		return "", false
	}
	return self.Nodes[i].Addr, true
}

// nodeCount is how many nodes the topology gives this site.
func (n *Node) nodeCount() int {
	self, _ := n.Topology().Site(n.creds.ID.Site)
	return len(self.Nodes)
}

// nodeClient returns a client of a node's API at an address.
func nodeClient(e *transport.Endpoint, at tiers.NodeAddr) *api.Client {
	return api.NewNodeClient(fmt.Sprintf("node-%d", at.Node), func(ctx context.Context) (net.Conn, error) {
		return e.Nodes().Dial(ctx, transport.KindAPI, at.Node, at.Addr)
	})
}

// sibling returns a client of another node's API.
func (n *Node) sibling(node uint32, addr string) *api.Client {
	return api.NewNodeClient(fmt.Sprintf("node-%d", node), func(ctx context.Context) (net.Conn, error) {
		if now, ok := n.address(node); ok {
			addr = now
		}
		return n.endpoint.Nodes().Dial(ctx, transport.KindAPI, node, addr)
	})
}

// ask returns what another node says of itself.
func (n *Node) ask(ctx context.Context, node uint32, addr string) (api.NodeInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, memberTimeout)
	defer cancel()
	c := n.sibling(node, addr)
	defer c.Close()
	return c.Node(ctx)
}

// info is what this node says of itself.
func (n *Node) info() api.NodeInfo {
	p := n.group.Progress()
	members, err := n.group.Members()
	digest := n.group.Digest()
	reads, at := n.group.Formats()
	c := n.group.Compared()
	formats := api.NodeFormats{Format: reads, SiteFormat: at}
	if c.Index > 0 {
		formats.ComparedAt, formats.ComparedDigest = c.Index, hex.EncodeToString(c.Digest[:])
	}
	return api.NodeInfo{
		Site: n.creds.ID.Site, Node: n.creds.ID.Node, ID: n.group.ID(), Fresh: err == nil && len(members) == 0 && p.Last == 0,
		Last: p.Last, Commit: p.Commit, Applied: p.Applied, Term: p.Term, Digest: hex.EncodeToString(digest[:]),
		NodeFormats: formats,
	}
}

// runMembers lets the leader bring the group to what the topology says, until
// ctx ends: it adds nodes that are new as non-voters and gives them a vote when
// they have caught up. It never removes one: that a disk is lost for good only
// an operator knows.
func (n *Node) runMembers(ctx context.Context) error {
	m := memberLoop{n: n, told: map[string]bool{}, target: map[string]uint64{}}
	for {
		var tick <-chan time.Time
		if n.nodeCount() > 1 {
			tick = time.After(memberTick)
		} else if reads, at := n.group.Formats(); at < reads {
			tick = time.After(formatsEvery)
		}
		select {
		case <-tick:
		case <-n.links.adopted:
			continue
		case <-ctx.Done():
			return nil
		}
		if n.group.Leads() {
			m.pass(ctx)
			m.follow(ctx)
		}
	}
}

// memberLoop is what a leader remembers between looks at its members.
type memberLoop struct {
	n      *Node
	told   map[string]bool   // what an operator was told already
	target map[string]uint64 // the entry that a non-voter must reach
	known  formats
}

func (m *memberLoop) pass(ctx context.Context) {
	members, err := m.n.group.Members()
	if err != nil {
		return
	}
	self, _ := m.n.Topology().Site(m.n.creds.ID.Site)
	for _, at := range self.Nodes {
		if at.Node == m.n.creds.ID.Node || ctx.Err() != nil {
			continue
		}
		if err := m.consider(ctx, at, members); err != nil {
			m.n.log.Debug("member", "peer", at.Node, "err", err)
		}
	}
}

// consider looks at one node that the topology lists.
func (m *memberLoop) consider(ctx context.Context, at tiers.NodeAddr, members []replication.Member) error {
	i := slices.IndexFunc(members, func(r replication.Member) bool { return r.Node == at.Node })
	if i >= 0 && members[i].Voter && m.told[members[i].ID] {
		return nil
	}
	info, err := m.n.ask(ctx, at.Node, at.Addr)
	switch {
	case err != nil:
		return err
	case m.n.reads(info) != nil:
		m.tell(info.ID, m.n.reads(info).Error())
	case i < 0 && info.Fresh:
		m.n.log.Info("adding a node to the site's group", "peer", info.ID)
		return m.n.group.AddNonvoter(info.ID, at.Addr)
	case i < 0:
		m.tell(info.ID, fmt.Sprintf("node %d is in the topology and not in the group, and its disk was in one before: to add it, end it, empty its directory and start it again", at.Node))
	case members[i].ID != info.ID:
		m.tell(info.ID, fmt.Sprintf("node %d came back with another disk, %s: if %s is lost, run: tiermesh raft remove %s", at.Node, info.ID, members[i].ID, members[i].ID))
	case !members[i].Voter:
		return m.promote(members[i].ID, info)
	default:
		m.told[info.ID] = true // all is well; no need to ask again
	}
	return nil
}

// promote gives a vote to a member that has reached the entry that was last
// when this node first looked at it.
func (m *memberLoop) promote(id string, info api.NodeInfo) error {
	target, ok := m.target[id]
	if !ok || info.Applied < target {
		if !ok {
			m.target[id] = m.n.group.Progress().Commit
		}
		return nil
	}
	m.n.log.Info("a node has caught up and gets a vote", "peer", id)
	delete(m.target, id)
	return m.n.group.Promote(id)
}

func (m *memberLoop) tell(id, text string) {
	if !m.told[id] {
		m.told[id] = true
		m.n.log.Warn("member", "peer", id, "text", text)
		m.n.alarms.raise(alarmMember, id, text)
	}
}

// site shows a node's place among the nodes of its site to the API.
type site struct{ n *Node }

var _ api.Site = site{}

// Leader implements [api.Site].
func (s site) Leader(ctx context.Context) (id string, self bool, err error) {
	if s.n.group.Leads() {
		return s.n.group.ID(), true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, leaderWait)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		// A leader that knows itself as such may still have to finish its term's
		// first entry.
		if l, ok := s.n.group.Leader(); s.n.group.Leads() || ok && l.ID != s.n.group.ID() {
			return l.ID, s.n.group.Leads(), nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return "", false, fmt.Errorf("%w: the site has no leader: a majority of its nodes must reach each other (tiermesh raft members)", api.ErrUnavailable)
		}
	}
}

// Linearize implements [api.Site].
func (s site) Linearize(ctx context.Context) error {
	err := s.n.group.Linearize(ctx)
	if errors.Is(err, replication.ErrUnknown) {
		return fmt.Errorf("%w: %w", api.ErrUnavailable, err)
	}
	return translate(err)
}

// DialMember implements [api.Site].
func (s site) DialMember(ctx context.Context, id string) (net.Conn, error) {
	m, err := s.member(id)
	if err != nil {
		return nil, err
	}
	if now, ok := s.n.address(m.Node); ok {
		m.Addr = now
	}
	return s.n.endpoint.Nodes().Dial(ctx, transport.KindAPI, m.Node, m.Addr)
}

// member finds a member by its identity, or by its node's number when only one
// has it.
func (s site) member(id string) (found replication.Member, err error) {
	members, err := s.n.group.Members()
	if err != nil {
		return found, err
	}
	number, _ := strconv.ParseUint(id, 10, 32)
	var same []string
	for _, m := range members {
		if m.ID == id {
			return m, nil
		}
		if number != 0 && m.Node == uint32(number) {
			found, same = m, append(same, m.ID)
		}
	}
	switch len(same) {
	case 0:
		return found, fmt.Errorf("%w: no member %q; see tiermesh raft members", api.ErrNotFound, id)
	case 1:
		return found, nil
	default:
		return found, fmt.Errorf("%w: member %q: which of %s?", api.ErrInvalid, id, strings.Join(same, ", "))
	}
}

// Node implements [api.Site].
func (s site) Node(context.Context) (api.NodeInfo, error) { return s.n.info(), nil }

// Members implements [api.Site].
func (s site) Members(ctx context.Context) ([]api.MemberStatus, error) {
	members, err := s.n.group.Members()
	if err != nil {
		return nil, err
	}
	out := make([]api.MemberStatus, len(members))
	for i, m := range members {
		out[i] = s.status(ctx, m)
	}
	return out, nil
}

func (s site) status(ctx context.Context, m replication.Member) api.MemberStatus {
	out := api.MemberStatus{ID: m.ID, Node: m.Node, Addr: m.Addr, Role: role(m)}
	if now, ok := s.n.address(m.Node); ok {
		out.Addr = now
	}
	info, err := s.n.info(), error(nil)
	if m.ID != info.ID {
		info, err = s.n.ask(ctx, m.Node, m.Addr)
	}
	switch {
	case err != nil:
		out.Error = err.Error()
	case info.ID != m.ID:
		out.Error = fmt.Sprintf("node %d has another disk now: %s", m.Node, info.ID)
	default:
		out.Info = &info
	}
	return out
}

func role(m replication.Member) string {
	switch {
	case m.Leader:
		return "leader"
	case m.Voter:
		return "voter"
	default:
		return "non-voter"
	}
}

// ChangeMember implements [api.Site].
func (s site) ChangeMember(ctx context.Context, c api.MemberChange) (api.MemberStatus, error) {
	if c.Do == api.MemberAdd {
		return s.add(ctx, c)
	}
	var m replication.Member
	if c.ID != "" {
		var err error
		if m, err = s.member(c.ID); err != nil {
			return api.MemberStatus{}, err
		}
	}
	var err error
	switch c.Do {
	case api.MemberRemove:
		err = s.n.group.Remove(m.ID)
	case api.MemberPromote:
		err = s.promote(ctx, m)
	case api.MemberTransfer:
		if m.ID, err = s.n.takesOver(ctx, m.ID); err == nil {
			err = s.n.group.Transfer(m.ID)
		}
		if err == nil {
			m, err = s.n.group.AwaitTransfer(ctx, m.ID)
		}
	case api.MemberUpgrade:
		if err = s.n.raiseFormat(ctx); err == nil {
			m.ID = s.n.group.ID()
		}
	}
	if err != nil || m.ID == "" || c.Do == api.MemberRemove {
		return api.MemberStatus{ID: m.ID, Node: m.Node, Addr: m.Addr}, translate(err)
	}
	if m, err = s.member(m.ID); err != nil {
		return api.MemberStatus{}, err
	}
	return s.status(ctx, m), nil
}

// add asks the node at an address who it is, and adds it when its disk is new.
func (s site) add(ctx context.Context, c api.MemberChange) (api.MemberStatus, error) {
	info, err := s.n.ask(ctx, c.Node, c.Addr)
	if err != nil {
		return api.MemberStatus{}, fmt.Errorf("%w: node %d at %s: %w", api.ErrUnavailable, c.Node, c.Addr, err)
	}
	if !info.Fresh {
		return api.MemberStatus{}, fmt.Errorf("%w: the disk of node %d (%s) was in a group before: end the node, empty its directory and start it again", api.ErrRejected, c.Node, info.ID)
	}
	if err := s.n.reads(info); err != nil {
		return api.MemberStatus{}, translate(err)
	}
	if err := s.n.group.AddNonvoter(info.ID, c.Addr); err != nil {
		return api.MemberStatus{}, translate(err)
	}
	m, err := s.member(info.ID)
	if err != nil {
		return api.MemberStatus{}, err
	}
	return s.status(ctx, m), nil
}

// promote gives a vote to a member that is not behind.
func (s site) promote(ctx context.Context, m replication.Member) error {
	target := s.n.group.Progress().Commit
	info, err := s.n.ask(ctx, m.Node, m.Addr)
	if err != nil {
		return fmt.Errorf("%w: %s does not answer: %w", api.ErrUnavailable, m.ID, err)
	}
	if info.ID != m.ID || info.Applied+promoteLag < target {
		return fmt.Errorf("%w: %s is at entry %d of %d (disk %s): let it catch up first", api.ErrRejected, m.ID, info.Applied, target, info.ID)
	}
	if err := s.n.reads(info); err != nil {
		return err
	}
	return s.n.group.Promote(m.ID)
}

// promoteLag is how many entries a member may be behind under load to get a
// vote by hand.
const promoteLag = 4096
