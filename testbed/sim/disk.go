package sim

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// errCrashed is what a disk says that its machine has crashed.
var errCrashed = errors.New("sim: the machine has crashed")

// errFsync is what a flush says that was made to fail.
var errFsync = errors.New("sim: fsync fails")

// mode is what a disk does about changes. It is full or does not flush for tables
// only, with which every flush of a store begins: Pebble cannot be made to go on
// after its manifest was not written, which it has to here in order to end.
type mode int

const (
	sound mode = iota
	full
	unflushable
	// crashed says that the machine has crashed and its process is yet to end: it
	// goes on with the store, but nothing of that becomes durable. Elsewhere, where
	// it would make copies of the store, it gets an error.
	crashed
)

const tableExt = ".sst"

// keptShare is the share of blocks and names that a crash leaves though they were
// not flushed.
const keptShare = 0.5

// blockBytes is what a crash keeps or loses as a whole.
const blockBytes = 4096

// disk is a file system over the operating system's that forgets, at a crash, what
// was not flushed. Flushing costs nothing: the machine below does not crash.
type disk struct {
	vfs.FS
	store string // the directory of the store
	trash string // keeps files that were removed, until that is durable

	mu      sync.Mutex // guards the fields below
	mode    mode
	rng     *rand.Rand
	dirty   map[*file]struct{}           // files with bytes that were not flushed
	names   map[string]map[string]string // by directory and name: where it is kept as of the last flush, "" for nowhere
	removed int                          // numbers the files in trash
}

// newDisk returns a disk whose losses follow from a seed. Trash must be on the file
// system of the store's directory.
func newDisk(store, trash string, seed uint64) *disk {
	return &disk{
		FS: vfs.Default, store: store, trash: trash, rng: rand.New(rand.NewPCG(seed, 1)), //nolint:gosec // reproducible
		dirty: map[*file]struct{}{}, names: map[string]map[string]string{},
	}
}

// set changes what the disk does from now on.
func (d *disk) set(m mode) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mode = m
}

// strike is the instant of the crash: what is kept, and nothing of what comes after,
// is what [disk.crash] leaves.
func (d *disk) strike() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.mode = crashed
	for f := range d.dirty {
		f.end = f.size
	}
	for _, names := range d.names {
		maps.DeleteFunc(names, func(string, string) bool { return d.rng.Float64() < keptShare })
	}
}

// may reports whether a path may be changed now; grows says that it takes room. The
// caller holds mu.
func (d *disk) may(path string, grows bool) error {
	switch {
	case d.mode == crashed && path != d.store && filepath.Dir(path) != d.store:
		return errCrashed
	case d.mode == full && grows && filepath.Ext(path) == tableExt:
		return syscall.ENOSPC
	}
	return nil
}

// note remembers what a name stood for when its directory was last flushed, before
// it changes. The caller holds mu.
func (d *disk) note(path string) error {
	dir, name := filepath.Split(filepath.Clean(path))
	dir = filepath.Clean(dir)
	if _, known := d.names[dir][name]; known {
		return nil
	}
	kept := filepath.Join(d.trash, strconv.Itoa(d.removed))
	err := os.Link(path, kept)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		kept = ""
	case err != nil:
		return fmt.Errorf("keep %s: %w", path, err)
	}
	d.removed++
	if d.names[dir] == nil {
		d.names[dir] = map[string]string{}
	}
	d.names[dir][name] = kept
	return nil
}

// change runs f, which changes what a name stands for.
func (d *disk) change(path string, grows bool, f func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := errors.Join(d.may(path, grows), d.note(path)); err != nil {
		return err
	}
	return f()
}

// whole runs f, which changes directories, durably.
func (d *disk) whole(f func() error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.mode == crashed {
		return errCrashed
	}
	return f()
}

// Create implements [vfs.FS].
func (d *disk) Create(path string, c vfs.DiskWriteCategory) (out vfs.File, err error) {
	err = d.change(path, true, func() error {
		f, err := d.FS.Create(path, c)
		out = &file{File: f, d: d, path: path}
		return err
	})
	return out, err
}

// Link implements [vfs.FS].
func (d *disk) Link(from, to string) error {
	return d.change(to, true, func() error { return d.FS.Link(from, to) })
}

// OpenReadWrite implements [vfs.FS].
func (d *disk) OpenReadWrite(path string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (out vfs.File, err error) {
	err = d.change(path, true, func() error {
		f, err := d.FS.OpenReadWrite(path, c, opts...)
		if err != nil {
			return err
		}
		info, err := f.Stat()
		if err == nil {
			out = &file{File: f, d: d, path: path, size: info.Size(), flushed: info.Size()}
		}
		return err
	})
	return out, err
}

// OpenDir implements [vfs.FS].
func (d *disk) OpenDir(path string) (vfs.File, error) {
	f, err := d.FS.OpenDir(path)
	if err != nil {
		return nil, err
	}
	return &directory{File: f, d: d, path: filepath.Clean(path)}, nil
}

// Remove implements [vfs.FS].
func (d *disk) Remove(path string) error {
	return d.change(path, false, func() error { return d.FS.Remove(path) })
}

// RemoveAll implements [vfs.FS].
func (d *disk) RemoveAll(path string) error {
	return d.whole(func() error { return d.FS.RemoveAll(path) })
}

// Rename implements [vfs.FS].
func (d *disk) Rename(from, to string) error {
	return d.whole(func() error { return d.FS.Rename(from, to) })
}

// ReuseForWrite implements [vfs.FS].
func (d *disk) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := d.Remove(from); err != nil {
		return nil, err
	}
	return d.Create(to, c)
}

// MkdirAll implements [vfs.FS].
func (d *disk) MkdirAll(dir string, perm os.FileMode) error {
	return d.whole(func() error { return d.FS.MkdirAll(dir, perm) })
}

// crash takes away what was not flushed before the strike, or a part of it, and what
// came after, once whoever had files open is gone. It makes the disk sound.
func (d *disk) crash() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for f := range d.dirty {
		errs = append(errs, f.lose(d.rng), f.File.Close())
	}
	clear(d.dirty)
	for dir, names := range d.names {
		for name, kept := range names {
			if err := putBack(filepath.Join(dir, name), kept); !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	d.mode = sound
	return errors.Join(append(errs, d.forget())...)
}

// putBack makes a path what it was.
func putBack(path, kept string) error {
	if kept == "" {
		return os.Remove(path)
	}
	return os.Rename(kept, path)
}

// settle ends the use of the disk in order: nothing is lost.
func (d *disk) settle() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for f := range d.dirty {
		if f.closed {
			errs = append(errs, f.File.Close())
		}
	}
	clear(d.dirty)
	d.mode = sound
	return errors.Join(append(errs, d.forget())...)
}

// forget makes every name durable. The caller holds mu.
func (d *disk) forget() error {
	clear(d.names)
	return errors.Join(os.RemoveAll(d.trash), os.MkdirAll(d.trash, 0o700))
}

// file is an open file that is written.
type file struct {
	vfs.File
	d    *disk
	path string

	// The disk's mu guards these.
	pos           int64 // of Write
	size, flushed int64
	end           int64 // its size when a crash struck
	closed        bool
}

// wrote notes bytes that are not durable. The caller holds the disk's mu.
func (f *file) wrote(from, to int64) {
	if _, known := f.d.dirty[f]; !known {
		f.d.dirty[f] = struct{}{}
		f.end = f.flushed // of one that is written after a strike only
	}
	f.flushed = min(f.flushed, from)
	f.size = max(f.size, to)
}

// Write implements [vfs.File].
func (f *file) Write(b []byte) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.may(f.path, true); err != nil {
		return 0, err
	}
	n, err := f.File.Write(b)
	f.wrote(f.pos, f.pos+int64(n))
	f.pos += int64(n)
	return n, err
}

// WriteAt implements [vfs.File].
func (f *file) WriteAt(b []byte, at int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.may(f.path, true); err != nil {
		return 0, err
	}
	n, err := f.File.WriteAt(b, at)
	f.wrote(at, at+int64(n))
	return n, err
}

// Preallocate implements [vfs.File]; the room is taken when it is written.
func (f *file) Preallocate(int64, int64) error { return nil }

// Sync implements [vfs.File].
func (f *file) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if f.d.mode == unflushable && filepath.Ext(f.path) == tableExt {
		return errFsync
	}
	if err := f.d.may(f.path, false); err != nil {
		return err
	}
	if f.d.mode != crashed {
		f.flushed = f.size
		delete(f.d.dirty, f)
	}
	return nil
}

// SyncData implements [vfs.File].
func (f *file) SyncData() error { return f.Sync() }

// SyncTo implements [vfs.File]; it promises nothing.
func (f *file) SyncTo(int64) (bool, error) { return false, nil }

// Close implements [vfs.File]. A file with bytes that are not durable stays open
// below for a crash to take them away.
func (f *file) Close() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	f.closed = true
	if _, dirty := f.d.dirty[f]; dirty {
		return nil
	}
	return f.File.Close()
}

// lose takes away what was not flushed, but for some blocks; what lies before one
// that stays reads as zeros.
func (f *file) lose(rng *rand.Rand) error {
	fd, end := int(f.Fd()), f.flushed
	zeros := make([]byte, blockBytes)
	for at := f.flushed; at < f.end; {
		next := min((at/blockBytes+1)*blockBytes, f.end)
		if rng.Float64() < keptShare {
			end = next
		} else if _, err := syscall.Pwrite(fd, zeros[:next-at], at); err != nil {
			return fmt.Errorf("lose bytes: %w", err)
		}
		at = next
	}
	if err := syscall.Ftruncate(fd, end); err != nil {
		return fmt.Errorf("lose bytes: %w", err)
	}
	return nil
}

// directory is an open directory; flushing it makes its names durable.
type directory struct {
	vfs.File
	d    *disk
	path string
}

// Sync implements [vfs.File].
func (f *directory) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.d.may(f.path, false); err != nil {
		return err
	}
	if f.d.mode == crashed {
		return nil
	}
	var errs []error
	for _, kept := range f.d.names[f.path] {
		if kept != "" {
			errs = append(errs, os.Remove(kept))
		}
	}
	delete(f.d.names, f.path)
	return errors.Join(errs...)
}
