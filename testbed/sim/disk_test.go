package sim_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tiermesh/tiermesh/testbed/sim"
)

// disk is a disk under test with its store's directory.
func disk(t *testing.T, seed uint64) (d *sim.Disk, dir string) {
	t.Helper()
	dir, trash := filepath.Join(t.TempDir(), "store"), filepath.Join(t.TempDir(), "trash")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.Mkdir(trash, 0o700)); err != nil {
		t.Fatal(err)
	}
	return sim.NewDisk(dir, trash, seed), dir
}

// write writes a file, flushed or not.
func write(t *testing.T, d *sim.Disk, path, text string, flush bool) {
	t.Helper()
	f, err := d.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write([]byte(text))
	if flush {
		err = errors.Join(err, f.Sync())
	}
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

func flushDir(t *testing.T, d *sim.Disk, dir string) {
	t.Helper()
	f, err := d.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestDiskForgets: a crash takes away names and bytes that were not flushed, each by
// itself, never what was flushed, and everything that comes after it.
func TestDiskForgets(t *testing.T) {
	const long = 3 * 4096
	var lost, kept [4]int
	for seed := range uint64(40) {
		d, dir := disk(t, seed)
		at := func(name string) string { return filepath.Join(dir, name) }
		write(t, d, at("old"), "old", true)
		write(t, d, at("long"), "", true)
		flushDir(t, d, dir)
		write(t, d, at("old"), "new", true)
		write(t, d, at("added"), "added", true)
		write(t, d, at("bytes"), strings.Repeat("x", long), false)
		if err := d.Remove(at("long")); err != nil {
			t.Fatal(err)
		}
		d.Strike()
		write(t, d, at("after"), "after", true)
		write(t, d, at("old"), "later", true)
		flushDir(t, d, dir)
		if err := d.MkdirAll(filepath.Join(dir, "..", "copy"), 0o700); err == nil {
			t.Fatal("a copy of the store is made after the crash")
		}
		if err := d.Crash(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(at("after")); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("what came after the crash is there: %v", err)
		}
		count := func(i int, is bool) {
			if is {
				kept[i]++
			} else {
				lost[i]++
			}
		}
		old, err := os.ReadFile(at("old"))
		if s := string(old); err != nil || s != "old" && s != "new" {
			t.Fatalf("a flushed file reads %q, %v", s, err)
		}
		count(0, string(old) == "new")
		_, err = os.Stat(at("added"))
		count(1, err == nil)
		_, err = os.Stat(at("long"))
		count(2, err != nil)
		b, err := os.ReadFile(at("bytes"))
		if err == nil {
			count(3, len(strings.Trim(string(b), "\x00")) == long)
		}
	}
	for i := range lost {
		if lost[i] == 0 || kept[i] == 0 {
			t.Errorf("case %d: lost %d times, kept %d times", i, lost[i], kept[i])
		}
	}
}

// TestDiskFails: a full disk takes no table, one that does not flush flushes none.
func TestDiskFails(t *testing.T) {
	d, dir := disk(t, 1)
	f, err := d.Create(filepath.Join(dir, "1.sst"), vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	d.Set(sim.Unflushable)
	if err := f.Sync(); err == nil {
		t.Error("flushed")
	}
	d.Set(sim.Full)
	if _, err := f.Write([]byte("x")); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("written: %v", err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
