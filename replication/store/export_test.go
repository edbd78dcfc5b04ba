package store

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tiermesh/tiermesh/crdt/reading"
	"github.com/tiermesh/tiermesh/tiers"
)

// Dump renders every key and value, for comparing whole stores. It is an error that a
// key is there which the store takes for absent, or that the index of names has not
// exactly the documents that are there.
func (s *Store) Dump() (string, error) {
	var b strings.Builder
	docs := map[string]bool{}
	err := s.scan(nil, func(key, value []byte) error {
		if covers(key) && s.presence.absent(key) {
			return fmt.Errorf("%q is taken for absent", key)
		}
		d := decoder{b: key[1:]}
		switch key[0] {
		case tableName: // before tableDoc
			docs[string(key)] = true
		case tableDoc:
			name := string(keyName(d.docKey()))
			if !docs[name] {
				return fmt.Errorf("%q is not in the index of names", key)
			}
			delete(docs, name)
		}
		fmt.Fprintf(&b, "%c %s = %s\n", key[0], hex.EncodeToString(key[1:]), hex.EncodeToString(value))
		return nil
	})
	if err == nil && len(docs) > 0 {
		err = fmt.Errorf("the index of names has documents that are not there: %v", docs)
	}
	return b.String(), err
}

// DropNames takes the index of names away, as in a store that an earlier build wrote.
func (s *Store) DropNames() error {
	return errors.Join(s.db.DeleteRange([]byte{tableName}, []byte{tableName + 1}, pebble.NoSync), s.db.Delete(keyMeta(metaNamed), pebble.NoSync))
}

// BlocksRead counts the blocks of tables that were looked into.
func (s *Store) BlocksRead() int64 {
	m := s.db.Metrics().BlockCache
	return m.Hits + m.Misses
}

// PresenceRead waits until what was stored at the opening is known to be there.
func (s *Store) PresenceRead() {
	s.presence.readers.Wait()
}

// Absent reports whether an outcome is known not to be there.
func (s *Store) Absent(key string) bool { return s.presence.absent(keyIdempotency(key)) }

// ForceFormat overwrites the format version, as a later build would.
func (s *Store) ForceFormat(v byte) error {
	if err := s.db.Set(keyMeta("format"), []byte{v}, pebble.NoSync); err != nil {
		return err
	}
	return s.Flush()
}

// nth returns the n-th key of a table.
func (s *Store) nth(table byte, n int) (key, value []byte, err error) {
	err = s.scan([]byte{table}, func(k, v []byte) error {
		if n == 0 {
			key, value = append([]byte(nil), k...), append([]byte(nil), v...)
		}
		n--
		return nil
	})
	return key, value, err
}

// Damage flips a bit in the n-th value of a table.
func (s *Store) Damage(table byte, n int) error {
	key, value, err := s.nth(table, n)
	if err != nil {
		return err
	}
	at := len(value) - 1
	if table == tableCheckpoint {
		at = 3 // its hash
	}
	value[at] ^= 1
	return s.db.Set(key, value, pebble.NoSync)
}

// Remove deletes the n-th key of a table.
func (s *Store) Remove(table byte, n int) error {
	key, _, err := s.nth(table, n)
	if err != nil {
		return err
	}
	return s.db.Delete(key, pebble.NoSync)
}

// DropHour deletes an hour's readings of a series.
func (s *Store) DropHour(site tiers.SiteID, series string, hour uint32) error {
	return s.db.Delete(keyHour(site, series, partReadings, hour), pebble.NoSync)
}

// AddReading adds a reading that no record has.
func (s *Store) AddReading(site tiers.SiteID, series string, p reading.Point) error {
	hour := reading.Hour(p.AtMS)
	return s.db.Merge(keyHour(site, series, partReadings, hour), reading.AppendSegment(nil, hour, 1, []reading.Point{p}), pebble.NoSync)
}
