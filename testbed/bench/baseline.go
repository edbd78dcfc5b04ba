package bench

import (
	"context"
	"encoding/json"
	"errors"
	"io"
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

// bareWrites proposes n events' JSON to a bare Raft log of one voter.
func bareWrites(ctx context.Context, dir string, n, clients int) (r run, err error) {
	log, err := raftboltdb.New(raftboltdb.Options{
		Path:        filepath.Join(dir, "raft.db"),
		BoltOptions: &bbolt.Options{NoFreelistSync: true, FreelistType: bbolt.FreelistMapType},
	})
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	conf := raft.DefaultConfig()
	conf.LocalID = "1"
	conf.BatchApplyCh = true
	conf.MaxAppendEntries = 512
	conf.HeartbeatTimeout, conf.ElectionTimeout, conf.LeaderLeaseTimeout = 150*time.Millisecond, 150*time.Millisecond, 150*time.Millisecond
	conf.Logger = hclog.NewNullLogger()
	addr, trans := raft.NewInmemTransport("1")
	snaps := raft.NewInmemSnapshotStore()
	if err := raft.BootstrapCluster(conf, log, log, snaps, trans, raft.Configuration{
		Servers: []raft.Server{{ID: "1", Address: addr, Suffrage: raft.Voter}},
	}); err != nil {
		return r, err
	}
	node, err := raft.NewRaft(conf, noop{}, log, log, snaps, trans)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, node.Shutdown().Error()) }()
	select {
	case <-node.LeaderCh():
	case <-ctx.Done():
		return r, context.Cause(ctx)
	}
	return drive(ctx, n, clients, func(_ context.Context, i int) error {
		b, err := json.Marshal(report(i))
		if err != nil {
			return err
		}
		return node.Apply(b, 0).Error()
	})
}
