package store

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tiermesh/tiermesh/crdt"
)

// table is one table file that is read by itself, without the database that it
// belongs to. first and last bound its keys where they could be read.
type table struct {
	path        string
	whole       bool // it is of the directory that should hold everything
	r           *sstable.Reader
	it          sstable.Iterator
	first, last []byte
	damage      error // the first that was found
}

// openTable opens a table file. A file whose ends cannot be read is damaged,
// and may hold any key.
func openTable(fs vfs.FS, path string) (*table, error) {
	f, err := fs.Open(path)
	if err != nil {
		return nil, err
	}
	in, err := sstable.NewSimpleReadable(f)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	opts := &pebble.Options{}
	opts.EnsureDefaults()
	r, err := sstable.NewReader(context.Background(), in, opts.MakeReaderOptions())
	if err != nil {
		return nil, errors.Join(err, in.Close())
	}
	it, err := r.NewIter(sstable.NoTransforms, nil, nil, sstable.AssertNoBlobHandles)
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	t := &table{path: path, r: r, it: it}
	if kv := it.First(); kv != nil {
		t.first = bytes.Clone(kv.K.UserKey)
	}
	t.note(it.Error())
	if kv := it.Last(); kv != nil {
		t.last = bytes.Clone(kv.K.UserKey)
	}
	t.note(it.Error())
	return t, nil
}

func (t *table) close() error { return errors.Join(t.it.Close(), t.r.Close()) }

func (t *table) note(err error) {
	if t.damage == nil {
		t.damage = err
	}
}

// mayHold reports whether the table's bounds allow a key.
func (t *table) mayHold(key []byte) bool {
	return (t.first == nil || bytes.Compare(t.first, key) <= 0) && (t.last == nil || bytes.Compare(key, t.last) <= 0)
}

// get returns the value of a key; nil when the table has none, or cannot be read
// there. The slice is valid until the next call.
func (t *table) get(key []byte) []byte {
	if !t.mayHold(key) {
		return nil
	}
	kv := t.it.SeekGE(key, 0)
	if err := t.it.Error(); err != nil {
		t.note(err)
		return nil
	}
	if kv == nil || !bytes.Equal(kv.K.UserKey, key) || !isSet(kv.Kind()) {
		return nil
	}
	v, _, err := kv.Value(nil)
	if t.note(err); err != nil {
		return nil
	}
	return v
}

func isSet(k pebble.InternalKeyKind) bool {
	return k == pebble.InternalKeyKindSet || k == pebble.InternalKeyKindSetWithDelete
}

// scan calls f with the entries under a prefix, each once: forward to the first
// place that cannot be read, then back from the end to the last such place. bad
// says that there was one.
func (t *table) scan(prefix []byte, f func(key, value []byte)) (bad bool) {
	end := prefixEnd(prefix)
	last := prefix
	for kv := t.it.SeekGE(prefix, 0); kv != nil && bytes.HasPrefix(kv.K.UserKey, prefix); kv = t.it.Next() {
		last = bytes.Clone(kv.K.UserKey)
		if v, _, err := kv.Value(nil); err == nil && isSet(kv.Kind()) {
			f(last, v)
		}
	}
	err := t.it.Error()
	if err == nil {
		return false
	}
	t.note(err)
	for kv := t.it.SeekLT(end, 0); kv != nil && bytes.Compare(kv.K.UserKey, last) > 0; kv = t.it.Prev() {
		if v, _, err := kv.Value(nil); err == nil && isSet(kv.Kind()) {
			f(bytes.Clone(kv.K.UserKey), v)
		}
	}
	return true
}

// tables are the files of one or several stores of a site, damaged or not, whole
// or not. What a site keeps is never changed once it is written, or only ever
// rises; so the files can be read in any order, and one that is obsolete does no
// harm. One of the directories should hold everything that the site had; what
// is unread there may be missing, whatever the others say.
type tables struct {
	open    []*table
	damaged []Finding // files that could not be opened
	holes   bool      // one of these is of the directory that should hold everything
}

// openTables opens every table in the directories, of which the first should hold
// everything. Those that are missing are no error.
func openTables(fs vfs.FS, dirs []string) *tables {
	t := &tables{}
	for i, dir := range dirs {
		names, err := fs.List(dir)
		if err != nil {
			t.holes = t.holes || i == 0
			continue
		}
		slices.Sort(names)
		for _, name := range names {
			if filepath.Ext(name) != ".sst" {
				continue
			}
			path := fs.PathJoin(dir, name)
			if o, err := openTable(fs, path); err != nil {
				t.damaged = append(t.damaged, Finding{File: path, What: "table cannot be opened: " + err.Error()})
				t.holes = t.holes || i == 0
			} else {
				o.whole = i == 0
				t.open = append(t.open, o)
			}
		}
	}
	return t
}

// close ends the reading. What it says again of damage is noted already.
func (t *tables) close() {
	for _, o := range t.open {
		_ = o.close()
	}
}

// findings names the damaged files.
func (t *tables) findings() []Finding {
	out := slices.Clone(t.damaged)
	for _, o := range t.open {
		if o.damage != nil {
			out = append(out, Finding{File: o.path, What: "table is damaged: " + o.damage.Error()})
		}
	}
	return out
}

// scan calls f with the entries of all tables under a prefix, in no order and
// with each version of them. bad says that some may be missing.
func (t *tables) scan(prefix []byte, f func(key, value []byte)) (bad bool) {
	for _, o := range t.open {
		if o.scan(prefix, f) && o.whole {
			bad = true
		}
	}
	return bad || t.holes
}

// find calls use with each version of a key until one will do.
func (t *tables) find(key []byte, use func(value []byte) bool) (found bool) {
	for _, o := range t.open {
		if v := o.get(key); v != nil && use(v) {
			return true
		}
	}
	return false
}

// chains returns every chain of which something is found, with the sequence
// number of its last record as far as that can be told; bad says that there may
// be more.
func (t *tables) chains() (out map[crdt.ChainID]uint64, bad bool) {
	out = map[crdt.ChainID]uint64{}
	bad = t.scan([]byte{tableChain}, func(key, value []byte) {
		k, v := decoder{b: key[1:]}, decoder{b: value}
		c := crdt.ChainID{Stream: k.stream(), Author: k.author()}
		if seq := v.u64(); !k.bad && !v.bad {
			out[c] = max(out[c], seq)
		}
	})
	for _, o := range t.open {
		at := []byte{tableRecord}
		for kv := o.it.SeekGE(at, 0); kv != nil && kv.K.UserKey[0] == tableRecord; kv = o.it.SeekGE(at, 0) {
			k := decoder{b: kv.K.UserKey[1:]}
			c := crdt.ChainID{Stream: k.stream(), Author: k.author()}
			if k.bad {
				break
			}
			out[c] = max(out[c], k.u64())
			at = prefixEnd(keyChain(tableRecord, c))
			if kv := o.it.SeekLT(at, 0); kv != nil && bytes.HasPrefix(kv.K.UserKey, keyChain(tableRecord, c)) {
				k := decoder{b: kv.K.UserKey[len(kv.K.UserKey)-8:]}
				out[c] = max(out[c], k.u64())
			}
			o.note(o.it.Error())
		}
		o.note(o.it.Error())
	}
	return out, bad
}

// CheckTables reads every table file in a directory of a store and names those
// whose blocks are not what was written. A file that goes away meanwhile, as
// obsolete ones do, is none.
func CheckTables(ctx context.Context, fs vfs.FS, dir string) ([]Finding, error) {
	if fs == nil {
		fs = vfs.Default
	}
	names, err := fs.List(dir)
	if err != nil {
		return nil, fmt.Errorf("check tables: %w", err)
	}
	var out []Finding
	for _, name := range names {
		if filepath.Ext(name) != ".sst" {
			continue
		}
		if ctx.Err() != nil {
			return out, context.Cause(ctx)
		}
		path := fs.PathJoin(dir, name)
		if err := checkTable(fs, path); err != nil {
			if _, gone := fs.Stat(path); gone != nil {
				continue
			}
			out = append(out, Finding{File: path, What: "table is damaged: " + err.Error()})
		}
	}
	return out, nil
}

func checkTable(fs vfs.FS, path string) error {
	t, err := openTable(fs, path)
	if err != nil {
		return err
	}
	return errors.Join(t.damage, t.r.ValidateBlockChecksums(), t.close())
}
