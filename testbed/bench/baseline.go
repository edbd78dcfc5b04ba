package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// noop is a state machine that does nothing.
type noop struct{}

func (noop) Apply(*raft.Log) any { return nil }

func (noop) ApplyBatch(logs []*raft.Log) []any { return make([]any, len(logs)) }

func (noop) Snapshot() (raft.FSMSnapshot, error) { return nil, raft.ErrNothingNewToSnapshot }

func (noop) Restore(r io.ReadCloser) error { return r.Close() }

// bareWrites proposes n events' JSON to a bare Raft log of some voters, over
// TCP on loopback.
func bareWrites(ctx context.Context, dir string, n, clients, nodes int) (r run, err error) {
	b := &bareGroup{}
	defer func() { err = errors.Join(err, b.close()) }()
	for i := range nodes {
		if err := b.add(filepath.Join(dir, fmt.Sprint(i+1)), raft.ServerID(fmt.Sprint(i+1))); err != nil {
			return r, err
		}
	}
	leader, err := b.start(ctx)
	if err != nil {
		return r, err
	}
	return drive(ctx, n, clients, func(_ context.Context, i int) error {
		b, err := json.Marshal(report(i))
		if err != nil {
			return err
		}
		return leader.Apply(b, 0).Error()
	})
}

// bareGroup is a bare Raft group.
type bareGroup struct {
	members []bareMember
	nodes   []*raft.Raft
}

type bareMember struct {
	conf  *raft.Config
	log   *raftboltdb.BoltStore
	trans *raft.NetworkTransport
}

func (b *bareGroup) add(dir string, id raft.ServerID) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	log, err := raftboltdb.New(raftboltdb.Options{
		Path:        filepath.Join(dir, "raft.db"),
		BoltOptions: &bbolt.Options{NoFreelistSync: true, FreelistType: bbolt.FreelistMapType},
	})
	if err != nil {
		return err
	}
	trans, err := raft.NewTCPTransportWithLogger("127.0.0.1:0", nil, 4, 10*time.Second, hclog.NewNullLogger())
	if err != nil {
		return errors.Join(err, log.Close())
	}
	conf := raft.DefaultConfig()
	conf.LocalID = id
	conf.BatchApplyCh = true
	conf.MaxAppendEntries = 512
	conf.HeartbeatTimeout, conf.ElectionTimeout, conf.LeaderLeaseTimeout = 500*time.Millisecond, 500*time.Millisecond, 250*time.Millisecond
	conf.Logger = hclog.NewNullLogger()
	b.members = append(b.members, bareMember{conf, log, trans})
	return nil
}

// start starts the group and returns its leader.
func (b *bareGroup) start(ctx context.Context) (*raft.Raft, error) {
	var all raft.Configuration
	for _, m := range b.members {
		all.Servers = append(all.Servers, raft.Server{ID: m.conf.LocalID, Address: m.trans.LocalAddr(), Suffrage: raft.Voter})
	}
	for _, m := range b.members {
		snaps := raft.NewInmemSnapshotStore()
		if err := raft.BootstrapCluster(m.conf, m.log, m.log, snaps, m.trans, all); err != nil {
			return nil, err
		}
		node, err := raft.NewRaft(m.conf, noop{}, m.log, m.log, snaps, m.trans)
		if err != nil {
			return nil, err
		}
		b.nodes = append(b.nodes, node)
	}
	for {
		for _, n := range b.nodes {
			if n.State() == raft.Leader && n.Barrier(0).Error() == nil {
				return n, nil
			}
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (b *bareGroup) close() (err error) {
	for _, n := range b.nodes {
		err = errors.Join(err, n.Shutdown().Error())
	}
	for _, m := range b.members {
		err = errors.Join(err, m.trans.Close(), m.log.Close())
	}
	return err
}
