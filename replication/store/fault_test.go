package store_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
)

// syncFails fails every fsync from some moment on.
type syncFails struct {
	mu sync.Mutex // guards on
	on bool
}

// String implements [errorfs.Injector].
func (*syncFails) String() string { return "fsync fails" }

// MaybeError implements [errorfs.Injector].
func (s *syncFails) MaybeError(op errorfs.Op) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.on && slices.Contains([]errorfs.OpKind{errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo}, op.Kind) {
		return errors.New("injected: fsync failed")
	}
	return nil
}

// TestSyncErrorIsFatal: after a failed fsync the store reports it as fatal or
// as the flush's error, and never says that something is durable; opened again
// on what did reach the disk, it is the state at the last good flush or later.
func TestSyncErrorIsFatal(t *testing.T) {
	disk := vfs.NewCrashableMem()
	fails := &syncFails{}
	fatal := make(chan error, 64)
	config := func(fs vfs.FS) store.Config {
		return store.Config{Dir: "/site", FS: fs, Federation: "cq", Site: self.Site, Fatal: func(err error) {
			select {
			case fatal <- err:
			default:
			}
		}}
	}
	s, err := store.Open(config(errorfs.Wrap(disk, fails)))
	if err != nil {
		t.Fatal(err)
	}
	w := newWriter(self)
	put := func(index uint64) {
		t.Helper()
		tx := s.Begin()
		if _, err := tx.Append(self, []store.Item{{Stream: tiers.StreamID{Site: self.Site, Class: tiers.ClassRoutine}, Doc: "event:a", Base: heads(t, w.base), Time: crdt.HybridTime(index), Change: w.put(t, "k", fmt.Sprint(index))}}); err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(index); err != nil {
			t.Fatal(err)
		}
	}
	put(1)
	put(2)
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	put(3)
	fails.mu.Lock()
	fails.on = true
	fails.mu.Unlock()
	flushed := make(chan error, 1)
	go func() { flushed <- s.Flush() }() // ends with the flush, or never: the process would
	select {
	case err := <-flushed:
		if err == nil {
			t.Error("a flush without fsync succeeded")
		}
	case err := <-fatal:
		if store.IsDamage(err) {
			t.Errorf("called damage: %v", err)
		}
	}
	again, err := store.Open(config(disk.CrashClone(vfs.CrashCloneCfg{})))
	if err != nil {
		t.Fatal(err)
	}
	if at := again.AppliedIndex(); at < 2 {
		t.Errorf("index %d after a flush of 2", at)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	fails.mu.Lock()
	fails.on = false // so that what runs can end
	fails.mu.Unlock()
	_ = s.Abandon()
}
