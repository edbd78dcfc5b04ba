package replication

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/archive"
	"github.com/tiermesh/tiermesh/tiers"
)

// Member is one disk in the site's group.
type Member struct {
	// ID is the disk's identity: the node's number and a random part.
	ID   string
	Node uint32
	Addr string
	// Voter is false for a member that still catches up.
	Voter  bool
	Leader bool
}

// ErrMember rejects a change of membership that may not be made.
var ErrMember = errors.New("replication: membership")

// Members returns the group's members as this node knows them; none when it
// belongs to no group yet.
func (g *Group) Members() ([]Member, error) {
	f := g.raft.GetConfiguration()
	if err := f.Error(); err != nil {
		return nil, fmt.Errorf("read members: %w", err)
	}
	_, leader := g.raft.LeaderWithID()
	servers := f.Configuration().Servers
	out := make([]Member, 0, len(servers))
	for _, s := range servers {
		node, err := nodeOf(string(s.ID))
		if err != nil {
			return nil, err
		}
		_, addr, _ := strings.Cut(string(s.Address), "@")
		out = append(out, Member{
			ID: string(s.ID), Node: node, Addr: addr, Voter: s.Suffrage == raft.Voter, Leader: s.ID == leader,
		})
	}
	return out, nil
}

// Leader returns the member that leads the site, as far as this node knows.
func (g *Group) Leader() (Member, bool) {
	members, err := g.Members()
	if err != nil {
		return Member{}, false
	}
	for _, m := range members {
		if m.Leader {
			return m, true
		}
	}
	return Member{}, false
}

// ID returns the identity of this node's disk.
func (g *Group) ID() string { return string(g.id) }

// Progress says how far this node is.
type Progress struct {
	// Last is the last entry of its log, Applied the last that its state
	// machine was handed; Commit is the last that it knows to be committed.
	Last, Commit, Applied uint64
	// Term is Raft's.
	Term uint64
}

// Progress returns how far this node is. A node of no group is at zero.
func (g *Group) Progress() Progress {
	return Progress{Last: g.raft.LastIndex(), Commit: g.raft.CommitIndex(), Applied: g.raft.AppliedIndex(), Term: g.raft.CurrentTerm()}
}

// Digest is a hash of every chain's head: nodes that applied the same entries
// have the same.
func (g *Group) Digest() crdt.Hash {
	held := map[tiers.StreamID]crdt.Hash{}
	for _, s := range g.store.Streams() {
		held[s] = g.store.Vector(s).Digest(s)
	}
	return crdt.LinkDigest(held)
}

// AddNonvoter adds a member that gets every entry and has no vote. It must be
// sure that the disk is new to the group.
func (g *Group) AddNonvoter(id, addr string) error {
	if _, err := nodeOf(id); err != nil {
		return err
	}
	return membership(g.raft.AddNonvoter(raft.ServerID(id), serverAddress(raft.ServerID(id), addr), 0, rpcTimeout))
}

// Promote gives a member a vote.
func (g *Group) Promote(id string) error {
	m, err := g.member(id)
	if err != nil || m.Voter {
		return err
	}
	return membership(g.raft.AddVoter(raft.ServerID(m.ID), serverAddress(raft.ServerID(m.ID), m.Addr), 0, rpcTimeout))
}

// Remove takes a member out of the group for good. The error wraps [ErrMember]
// for the last voter and for an identity that is no member.
func (g *Group) Remove(id string) error {
	members, err := g.Members()
	if err != nil {
		return err
	}
	found, others := false, 0
	for _, m := range members {
		switch {
		case m.ID == id:
			found = true
		case m.Voter:
			others++
		}
	}
	if !found {
		return fmt.Errorf("%w: %s is no member", ErrMember, id)
	}
	if others == 0 {
		return fmt.Errorf("%w: %s is the last voter", ErrMember, id)
	}
	return membership(g.raft.RemoveServer(raft.ServerID(id), 0, rpcTimeout))
}

func (g *Group) member(id string) (Member, error) {
	members, err := g.Members()
	if err != nil {
		return Member{}, err
	}
	for _, m := range members {
		if m.ID == id {
			return m, nil
		}
	}
	return Member{}, fmt.Errorf("%w: %s is no member", ErrMember, id)
}

func membership(f raft.IndexFuture) error { return raftError(f.Error()) }

// Transfer hands the leadership to a voter, the most up-to-date one for "". See
// [Group.AwaitTransfer] for what came of it.
func (g *Group) Transfer(id string) error {
	if id == "" {
		return raftError(g.raft.LeadershipTransfer().Error())
	}
	m, err := g.member(id)
	if err != nil {
		return err
	}
	switch {
	case m.ID == g.ID() && g.Leads():
		return fmt.Errorf("%w: %s leads already", ErrMember, id)
	case !m.Voter:
		return fmt.Errorf("%w: %s has no vote", ErrMember, id)
	}
	return raftError(g.raft.LeadershipTransferToServer(raft.ServerID(m.ID), serverAddress(raft.ServerID(m.ID), m.Addr)).Error())
}

// AwaitTransfer returns who leads after [Group.Transfer]: that Raft took the request
// does not say that the member won, and a member that did not take over leaves the
// old leader leading again. The error wraps [ErrMember] when, a few elections later,
// somebody else leads, or this node still when id is "", and [ErrUnknown] when nobody
// is known to lead.
func (g *Group) AwaitTransfer(ctx context.Context, id string) (Member, error) {
	ctx, cancel := context.WithTimeout(ctx, transferElections*g.cfg.ElectionTimeout)
	defer cancel()
	look := time.NewTicker(transferLook)
	defer look.Stop()
	for {
		m, known := g.Leader()
		if known && (m.ID == id || id == "" && m.ID != g.ID()) {
			return m, nil
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			if !known {
				return Member{}, fmt.Errorf("%w: the leadership was handed over, and nobody is known to lead yet", ErrUnknown)
			}
			return m, fmt.Errorf("%w: the leadership was not taken over: %s leads", ErrMember, m.ID)
		}
	}
}

const (
	// transferElections is how many election time-outs a transfer may take.
	transferElections = 5
	// transferLook is how often the leader is looked at meanwhile.
	transferLook = 20 * time.Millisecond
)

// handOver gives the leadership away when somebody can take it; a node that
// ends without is missed for an election's time-out.
func (g *Group) handOver() {
	if g.raft.State() != raft.Leader {
		return
	}
	members, err := g.Members()
	voters := 0
	for _, m := range members {
		if m.Voter {
			voters++
		}
	}
	if err != nil || voters < 2 {
		return
	}
	if err := g.Transfer(""); err != nil {
		g.cfg.Logger.Warn("leadership not handed over", "err", err)
	}
}

// raftError turns Raft's refusals into this package's.
func raftError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
		return ErrNotLeader
	default:
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
}

// Linearize returns when this node's store reflects every write that was
// acknowledged before the call. The error wraps [ErrNotLeader] or [ErrUnknown].
func (g *Group) Linearize(ctx context.Context) error {
	future, err := enqueue(g, func() raft.Future { return g.raft.Barrier(0) })
	if err != nil {
		return err
	}
	return raftError(await(ctx, future))
}

// Init makes an empty directory a new site's, whose first node opens it next.
// The error wraps [archive.ErrExists] for a directory that is not empty.
func Init(dir string) error {
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("%w: %s is not empty", archive.ErrExists, dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("init site: %w", err)
	}
	return markBootstrap(dir)
}

// markBootstrap lets a directory without Raft state become a new group.
func markBootstrap(dir string) error {
	f, err := os.OpenFile(filepath.Join(dir, bootstrapMark), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("mark %s: %w", dir, err)
	}
	return errors.Join(f.Sync(), f.Close(), archive.SyncDir(dir))
}
