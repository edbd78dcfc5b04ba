package replication

import (
	"errors"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
)

// Snapshot flushes the store and lets Raft forget what it reflects.
func (g *Group) Snapshot() error { return g.raft.Snapshot().Error() }

// OpenSnapshots opens a node's snapshots beside it.
func OpenSnapshots(dir string) (raft.SnapshotStore, error) { return newSnapshots(dir) }

// Node returns the node's number.
func (g *Group) Node() uint32 { return g.cfg.Node }

// joined encodes commands as one log entry.
func joined(c codec, commands ...command) ([]byte, error) {
	var batch []*proposal
	for _, cmd := range commands {
		b, err := c.enc.Marshal(cmd)
		if err != nil {
			return nil, err
		}
		batch = append(batch, &proposal{data: b})
	}
	return new(packer).entry(batch), nil
}

// LogIncarnation writes an entry that begins the incarnation after from, among
// other commands, to the log of a node that is down, and returns the last one
// that a salvage finds in the log.
func LogIncarnation(dir string, from uint32, site tiers.SiteID) (uint32, error) {
	c, err := newCodec()
	if err != nil {
		return 0, err
	}
	release := command{Claim: &claimCommand{Resource: "r", Epoch: 1}}
	data, err := joined(c, release, command{Incarnation: &incarnationCommand{From: from}}, release)
	if err != nil {
		return 0, err
	}
	if err := LogEntry(dir, data); err != nil {
		return 0, err
	}
	log, err := openLog(filepath.Join(dir, "raft.db"), nil)
	if err != nil {
		return 0, err
	}
	found, unread := lastIncarnation(log, site)
	return found, errors.Join(err, unread, log.Close())
}

// ApplyAside applies two entries to a store in one batch, or one by one: a claim,
// and one that sets a chain aside after another command. It returns the code of
// the latter's outcome.
func ApplyAside(st *store.Store, site tiers.SiteID, e store.Evict, together bool) (code int, err error) {
	c, err := newCodec()
	if err != nil {
		return 0, err
	}
	f := &fsm{store: st, site: site, codec: c, clock: crdt.NewClock(time.Now), format: Format, fatal: func(fatal error) { err = errors.Join(err, fatal) }}
	claim := command{Claim: &claimCommand{Resource: "r", Holder: "h"}}
	aside := command{Aside: &asideCommand{
		Site: e.Chain.Stream.Site, Class: e.Chain.Stream.Class, Author: e.Chain.Author.Site, Incarnation: e.Chain.Author.Incarnation,
		Keep: e.Keep, Hash: e.Hash,
	}}
	first, failed := joined(c, claim)
	second, again := joined(c, command{Incarnation: &incarnationCommand{From: 99}}, aside)
	if failed = errors.Join(failed, again); failed != nil {
		return 0, failed
	}
	at := st.AppliedIndex()
	logs := []*raft.Log{{Index: at + 1, Type: raft.LogCommand, Data: first}, {Index: at + 2, Type: raft.LogCommand, Data: second}}
	var out any
	if together {
		out = f.ApplyBatch(logs)[1]
	} else {
		f.Apply(logs[0])
		out = f.Apply(logs[1])
	}
	return out.([]outcome)[1].Code, err
}

// LogLength returns how many entries the log holds.
func (g *Group) LogLength() (uint64, error) {
	first, err := g.log.FirstIndex()
	if err != nil {
		return 0, err
	}
	last, err := g.log.LastIndex()
	return last - first + 1, err
}

// Linger is how long an entry waits at most.
const Linger = linger

// Gather makes an entry of one command and those that wait behind it, while others
// come later, and returns how many it holds.
func Gather(waiting, later int, after time.Duration, enough int) int {
	c := combiner{waiting: make(chan *proposal, waitingMax)}
	for range waiting {
		c.waiting <- &proposal{}
	}
	if later > 0 {
		time.AfterFunc(after, func() {
			for range later {
				c.waiting <- &proposal{}
			}
		})
	}
	batch, _ := c.gather(&proposal{}, enough)
	return len(batch)
}

// LogEntry writes an entry to the log of a node that is down.
func LogEntry(dir string, data []byte) error {
	log, err := openLog(filepath.Join(dir, "raft.db"), nil)
	if err != nil {
		return err
	}
	last, err := log.LastIndex()
	if err == nil {
		err = log.StoreLog(&raft.Log{Index: last + 1, Term: 1, Type: raft.LogCommand, Data: data})
	}
	return errors.Join(err, log.Close())
}

// Entries makes log entries of encoded commands, one after the other as a group
// does.
func Entries(batches ...[][]byte) [][]byte {
	p := packer{may: true}
	var out [][]byte
	for _, commands := range batches {
		var batch []*proposal
		for _, b := range commands {
			batch = append(batch, &proposal{data: b})
		}
		out = append(out, p.entry(batch))
	}
	return out
}

// Commands returns the encoded commands of a log entry.
func Commands(entry []byte) ([][]byte, error) {
	c, err := newCodec()
	if err != nil {
		return nil, err
	}
	commands, _, err := c.commands(entry, nil)
	var out [][]byte
	for _, b := range commands {
		out = append(out, b)
	}
	return out, err
}

// PackedEntries returns how many entries are packed in the log of a node that is down.
func PackedEntries(dir string) (n int, err error) {
	log, err := openLog(filepath.Join(dir, "raft.db"), nil)
	if err != nil {
		return 0, err
	}
	first, err1 := log.FirstIndex()
	last, err2 := log.LastIndex()
	for i := first; err1 == nil && err2 == nil && i <= last && i > 0; i++ {
		var l raft.Log
		if err = log.GetLog(i, &l); err != nil {
			break
		}
		if len(l.Data) > 0 && l.Type == raft.LogCommand && l.Data[0]&majorType == packedEntry {
			n++
		}
	}
	return n, errors.Join(err, err1, err2, log.Close())
}
