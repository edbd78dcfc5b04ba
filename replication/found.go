package replication

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	msgpack "github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/raft"
)

// foundLog holds the entries that are left in a damaged log's file, in memory.
type foundLog struct {
	entries     map[uint64]*raft.Log
	first, last uint64
}

var _ entryLog = (*foundLog)(nil)

// findEntries looks through all pages of a log's file for entries whose seal is
// right, whatever leads to them: also in pages that bbolt gave up, where older
// copies lie. Of two entries with one index the one of the later term counts, and
// none counts behind one of a later term, which took its place.
func findEntries(path string) (*foundLog, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read raft log: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read raft log: %w", err)
	}
	found := &foundLog{entries: map[uint64]*raft.Log{}}
	size := pageSize(f)
	for at := int64(0); at < info.Size(); at += int64(size) {
		if err := found.page(f, at, size, info.Size()); err != nil {
			return nil, fmt.Errorf("read raft log %s: %w", path, err)
		}
	}
	found.settle()
	return found, nil
}

// pageSize returns what the meta page that is whole says, or else the machine's.
func pageSize(f io.ReaderAt) int {
	for i := range 2 {
		b := boltFile{r: f, size: os.Getpagesize()}
		if _, err := b.readMetaPage(i); err == nil {
			return b.size
		}
	}
	return os.Getpagesize()
}

// page takes in what a page holds, with those it overflows into.
func (l *foundLog) page(f io.ReaderAt, at int64, size int, end int64) error {
	head := make([]byte, boltHeader)
	if _, err := f.ReadAt(head, at); err != nil {
		return nil //nolint:nilerr // the file ends within it
	}
	if binary.NativeEndian.Uint64(head) != uint64(at)/uint64(size) || binary.NativeEndian.Uint16(head[8:]) != boltLeaf {
		return nil
	}
	length := (int64(binary.NativeEndian.Uint32(head[12:])) + 1) * int64(size)
	page := make([]byte, min(length, end-at))
	if _, err := f.ReadAt(page, at); err != nil {
		return err
	}
	l.leaf(page)
	return nil
}

// leaf takes in the elements that lie inside a page. A small bucket is a page inside
// an element.
func (l *foundLog) leaf(page []byte) {
	for i := range int(binary.NativeEndian.Uint16(page[10:])) {
		at := boltHeader + i*boltElement
		if at+boltElement > len(page) {
			return
		}
		e := elementOf(page[at:], false)
		if uint64(at)+e.pos+e.key+e.value > uint64(len(page)) {
			continue
		}
		value := page[uint64(at)+e.pos+e.key:][:e.value]
		if e.flags == boltIsBucket && len(value) > 2*boltHeader && binary.NativeEndian.Uint64(value) == 0 {
			l.leaf(value[boltHeader:])
		} else {
			l.take(value)
		}
	}
}

// take decodes an entry as raft-boltdb encodes it, and keeps it if it is one.
func (l *foundLog) take(value []byte) {
	var entry raft.Log
	if msgpack.NewDecoder(bytes.NewReader(value), &msgpack.MsgpackHandle{}).Decode(&entry) != nil || !unseal(&entry) {
		return
	}
	if old := l.entries[entry.Index]; old == nil || old.Term < entry.Term {
		l.entries[entry.Index] = &entry
	}
}

func (l *foundLog) settle() {
	term := uint64(0)
	for _, i := range slices.Sorted(maps.Keys(l.entries)) {
		if l.entries[i].Term < term {
			delete(l.entries, i)
			continue
		}
		term, l.last = l.entries[i].Term, i
		if l.first == 0 {
			l.first = i
		}
	}
}

// FirstIndex implements [entryLog].
func (l *foundLog) FirstIndex() (uint64, error) { return l.first, nil }

// LastIndex implements [entryLog].
func (l *foundLog) LastIndex() (uint64, error) { return l.last, nil }

// Close implements [entryLog].
func (l *foundLog) Close() error { return nil }

// GetLog implements [entryLog]. The error wraps [ErrLogDamaged].
func (l *foundLog) GetLog(index uint64, into *raft.Log) error {
	entry := l.entries[index]
	if entry == nil {
		return fmt.Errorf("%w: entry %d is nowhere", ErrLogDamaged, index)
	}
	*into = *entry
	return nil
}

func (l *foundLog) each(f func(*raft.Log)) error {
	for _, i := range slices.Sorted(maps.Keys(l.entries)) {
		f(l.entries[i])
	}
	return nil
}
