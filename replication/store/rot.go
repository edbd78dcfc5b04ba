package store

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// rot remembers the tables in which damage was found since the store was opened.
type rot struct {
	mu    sync.Mutex // guards paths
	paths map[string]struct{}
}

func (r *rot) note(path string) (first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.paths == nil {
		r.paths = map[string]struct{}{}
	}
	_, known := r.paths[path]
	r.paths[path] = struct{}{}
	return !known
}

// forget starts over with another database.
func (r *rot) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.paths = nil
}

func (r *rot) files() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(maps.Keys(r.paths))
}

// IsDamage reports whether an error says that stored bytes are not what was
// written, in a table or in what it holds.
func IsDamage(err error) bool { return errors.Is(err, ErrCorrupt) || pebble.IsCorruptionError(err) }

// damage wraps [ErrCorrupt] around an error that speaks of it; a full disk, say,
// is none.
func damage(what string, err error) error {
	if pebble.IsCorruptionError(err) {
		return fmt.Errorf("%w: %s: %w", ErrCorrupt, what, err)
	}
	return fmt.Errorf("store: %s: %w", what, err)
}

// listener says what becomes of Pebble's findings. A damaged table is named and
// the read that found it fails, which ends the process where it is Apply's;
// readers get the error. A flush or compaction that fails ends the process:
// after a failed fsync nothing is known of what is on disk.
func (s *Store) listener() *pebble.EventListener {
	return &pebble.EventListener{
		DataCorruption: func(i pebble.DataCorruptionInfo) {
			if s.rot.note(i.Path) {
				s.cfg.Logger.Error("table damaged", "path", i.Path, "err", i.Details)
			}
		},
		BackgroundError: func(err error) {
			if !errors.Is(err, pebble.ErrCancelledCompaction) && !errors.Is(err, pebble.ErrClosed) {
				s.cfg.Fatal(damage("flush or compaction", err))
			}
		},
	}
}
