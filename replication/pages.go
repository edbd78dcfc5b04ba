package replication

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/tiermesh/tiermesh/replication/store"
)

// The layout of a bbolt file (bbolt, internal/common), in the byte order of the
// machine that wrote it.
const (
	boltMagic    = 0xED0CDAED
	boltHeader   = 16 // id, flags, count, overflow
	boltElement  = 16 // of a branch: pos, key's size, page; of a leaf: flags, pos, sizes
	boltMeta     = 64
	boltHashed   = 56 // what a meta page's checksum covers
	boltBranch   = 1
	boltLeaf     = 2
	boltIsBucket = 1       // flag of a leaf's element
	boltMaxPage  = 1 << 16 // bytes
	boltConf     = "conf"  // the bucket of Raft's own state
)

// boltBuckets are what raft-boltdb keeps, with the keys that a bucket may have; nil
// for any.
var boltBuckets = map[string][]string{
	boltConf: {string(keyServerID), string(keySealed), "CurrentTerm", "LastVoteTerm", "LastVoteCand"},
	"logs":   nil,
}

// checkFile reads every page of a log's file that is in use, before bbolt does:
// bbolt trusts what it maps to memory, and panics in a goroutine of its own, or dies
// of reading beyond the end, where this returns an error. A file whose latest meta page
// is damaged is refused, too; bbolt would go on with the one before, and without
// the latest write. The error wraps [store.ErrLocked] or [ErrLogDamaged].
func checkFile(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open raft log: %w", err)
	}
	defer func() { _ = f.Close() }()
	if err := lockFile(f); err != nil {
		return fmt.Errorf("%w: %s: stop the other process first", err, path)
	}
	if err := checkPages(f); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrLogDamaged, path, err)
	}
	return nil
}

// lockFile waits up to a second for a file that another process may have.
func lockFile(f *os.File) error {
	for end := time.Now().Add(time.Second); ; {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil || !errors.Is(err, syscall.EWOULDBLOCK) {
			return err
		}
		if time.Now().After(end) {
			return store.ErrLocked
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// boltFile is a bbolt file that is being checked.
type boltFile struct {
	r       io.ReaderAt
	size    int    // of a page, in bytes
	end     uint64 // the first page that is not in use
	root    uint64
	seen    []bool // by page
	pending []boltPage
	buckets []string
}

// boltPage is a page to look at, and what its parent says of its keys: from min on,
// and below max unless it is nil.
type boltPage struct {
	id       uint64
	bucket   string // empty for the list of buckets
	min, max []byte
}

func checkPages(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	b := &boltFile{r: f}
	if err := b.readMeta(); err != nil {
		return err
	}
	if b.end > uint64(info.Size())/uint64(b.size) {
		return fmt.Errorf("it has %d bytes, its contents %d pages of %d", info.Size(), b.end, b.size)
	}
	b.seen = make([]bool, b.end)
	b.pending = []boltPage{{id: b.root}}
	for len(b.pending) > 0 {
		p := b.pending[len(b.pending)-1]
		b.pending = b.pending[:len(b.pending)-1]
		if err := b.check(p); err != nil {
			return fmt.Errorf("page %d: %w", p.id, err)
		}
	}
	if n := len(b.buckets); n != 0 && n != len(boltBuckets) {
		return fmt.Errorf("of its buckets there are %q only", b.buckets)
	}
	return nil
}

// readMeta takes the two meta pages in, of which the one with the higher transaction counts.
func (b *boltFile) readMeta() error {
	b.size = os.Getpagesize()
	var latest uint64
	for i := range 2 {
		m, err := b.readMetaPage(i)
		if err != nil {
			return fmt.Errorf("meta page %d: %w", i, err)
		}
		if tx := binary.NativeEndian.Uint64(m[48:]); i == 0 || tx > latest {
			latest, b.root, b.end = tx, binary.NativeEndian.Uint64(m[16:]), binary.NativeEndian.Uint64(m[40:])
		}
	}
	return nil
}

// readMetaPage returns a meta page that is whole, and takes the size of pages from it.
func (b *boltFile) readMetaPage(i int) ([]byte, error) {
	m := make([]byte, boltMeta)
	if _, err := b.r.ReadAt(m, int64(i*b.size+boltHeader)); err != nil {
		return nil, err
	}
	sum := fnv.New64a()
	_, _ = sum.Write(m[:boltHashed])
	if binary.NativeEndian.Uint32(m) != boltMagic || binary.NativeEndian.Uint64(m[boltHashed:]) != sum.Sum64() {
		return nil, errors.New("its bytes are not those that were written")
	}
	size := binary.NativeEndian.Uint32(m[8:])
	if size < boltHeader+boltMeta || size > boltMaxPage {
		return nil, fmt.Errorf("pages of %d bytes", size)
	}
	b.size = int(size)
	return m, nil
}

// check reads a page with those it overflows into, and puts its children on the list.
func (b *boltFile) check(p boltPage) error {
	if p.id < 2 || p.id >= b.end {
		return fmt.Errorf("there are pages 2 to %d", b.end)
	}
	head := make([]byte, boltHeader)
	if _, err := b.r.ReadAt(head, int64(p.id)*int64(b.size)); err != nil {
		return err
	}
	id, more := binary.NativeEndian.Uint64(head), uint64(binary.NativeEndian.Uint32(head[12:]))
	if id != p.id || more >= b.end-p.id {
		return fmt.Errorf("it says that it is page %d, with %d more", id, more)
	}
	for i := p.id; i <= p.id+more; i++ {
		if b.seen[i] {
			return errors.New("it is in two places")
		}
		b.seen[i] = true
	}
	page := make([]byte, int(more+1)*b.size)
	if _, err := b.r.ReadAt(page, int64(p.id)*int64(b.size)); err != nil {
		return err
	}
	return b.checkElements(p, page)
}

func (b *boltFile) checkElements(p boltPage, page []byte) error {
	flags, count := binary.NativeEndian.Uint16(page[8:]), int(binary.NativeEndian.Uint16(page[10:]))
	if boltHeader+count*boltElement > len(page) || flags != boltLeaf && (flags != boltBranch || count == 0) {
		return fmt.Errorf("type %d with %d elements", flags, count)
	}
	var children []boltPage
	previous := p.min
	for i := range count {
		at := boltHeader + i*boltElement
		e := elementOf(page[at:], flags == boltBranch)
		if e.pos < uint64(count-i)*boltElement || uint64(at)+e.pos+e.key+e.value > uint64(len(page)) {
			return fmt.Errorf("element %d is outside", i)
		}
		body := page[uint64(at)+e.pos:]
		key, value := body[:e.key], body[e.key:e.key+e.value]
		order := bytes.Compare(previous, key)
		if order > 0 || order == 0 && i > 0 || p.max != nil && bytes.Compare(key, p.max) >= 0 {
			return fmt.Errorf("the key of element %d is out of order", i)
		}
		previous = key
		if flags == boltLeaf {
			if err := b.checkLeaf(p, e.flags, key, value); err != nil {
				return fmt.Errorf("element %d: %w", i, err)
			}
			continue
		}
		if i > 0 {
			children[i-1].max = key
		}
		children = append(children, boltPage{id: e.page, bucket: p.bucket, min: key, max: p.max})
	}
	b.pending = append(b.pending, children...)
	return nil
}

// boltItem is an element of a page.
type boltItem struct {
	flags           uint32
	page            uint64
	pos, key, value uint64
}

func elementOf(b []byte, branch bool) boltItem {
	word := func(i int) uint64 { return uint64(binary.NativeEndian.Uint32(b[4*i:])) }
	if branch {
		return boltItem{pos: word(0), key: word(1), page: binary.NativeEndian.Uint64(b[8:])}
	}
	return boltItem{flags: uint32(word(0)), pos: word(1), key: word(2), value: word(3)}
}

// checkLeaf looks at a bucket, or at an entry of one.
func (b *boltFile) checkLeaf(p boltPage, flags uint32, key, value []byte) error {
	if p.bucket != "" {
		keys := boltBuckets[p.bucket]
		if flags != 0 || keys != nil && !slices.Contains(keys, string(key)) {
			return fmt.Errorf("key %q with flags %d", key, flags)
		}
		return nil
	}
	if _, ours := boltBuckets[string(key)]; !ours || flags != boltIsBucket || len(value) < boltHeader {
		return fmt.Errorf("bucket %q with flags %d, %d bytes", key, flags, len(value))
	}
	b.buckets = append(b.buckets, string(key))
	in := boltPage{id: binary.NativeEndian.Uint64(value), bucket: string(key)}
	if in.id != 0 {
		b.pending = append(b.pending, in)
		return nil
	}
	// A small bucket is a leaf inside its element; bbolt would free the page that
	// it says it is.
	page := value[boltHeader:]
	leaf := binary.NativeEndian.AppendUint16(make([]byte, 8, 10), boltLeaf)
	if len(page) < boltHeader || !bytes.HasPrefix(page, leaf) || binary.NativeEndian.Uint32(page[12:]) != 0 {
		return fmt.Errorf("bucket %q is no leaf", key)
	}
	return b.checkElements(in, page)
}
