package store

import (
	"encoding/hex"
	"fmt"
	"strings"

	"github.com/cockroachdb/pebble/v2"
)

// Dump renders every key and value, for comparing whole stores.
func (s *Store) Dump() (string, error) {
	var b strings.Builder
	err := s.scan(nil, func(key, value []byte) error {
		fmt.Fprintf(&b, "%c %s = %s\n", key[0], hex.EncodeToString(key[1:]), hex.EncodeToString(value))
		return nil
	})
	return b.String(), err
}

// ForceFormat overwrites the format version, as a later build would.
func (s *Store) ForceFormat(v byte) error {
	if err := s.db.Set(keyMeta("format"), []byte{v}, pebble.NoSync); err != nil {
		return err
	}
	return s.Flush()
}
