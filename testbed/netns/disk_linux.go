package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/tiermesh/tiermesh/testbed/run"
	"github.com/tiermesh/tiermesh/testbed/scenario"
	"github.com/tiermesh/tiermesh/tiers"
)

// ballast is the file that fills a small disk.
const ballast = "ballast"

// smallDiskOptions make a disk that is large enough for a store and its log, and
// soon full.
const smallDiskOptions = "size=128m,mode=0700"

// smallDisks are the sites whose disks a script fills.
func smallDisks(s *scenario.Script) map[tiers.SiteID]bool {
	small := map[tiers.SiteID]bool{}
	for _, step := range s.Steps {
		if a, ok := step.Do.(scenario.Act); ok && a.Kind == scenario.ActDiskFull {
			small[a.Site] = true
		}
	}
	return small
}

// mountSmall puts a small disk at a directory.
func mountSmall(dir string) error {
	if err := syscall.Mount(mountSource, dir, "tmpfs", 0, smallDiskOptions); err != nil {
		return fmt.Errorf("mount a small disk at %s: %w", dir, err)
	}
	return nil
}

// isSmall reports whether a small disk is at a directory.
func isSmall(dir string) (bool, error) {
	const tmpfs = 0x01021994
	var at, above syscall.Statfs_t
	if err := errors.Join(syscall.Statfs(dir, &at), syscall.Statfs(filepath.Dir(dir), &above)); err != nil {
		return false, fmt.Errorf("look at disk %s: %w", dir, err)
	}
	return at.Type == tmpfs && at.Fsid != above.Fsid, nil
}

// fillDisk leaves no room on a member's disk.
func fillDisk(m *member) error {
	small, err := isSmall(m.data())
	if err != nil {
		return err
	}
	if !small {
		return fmt.Errorf("%w: the script that the world was opened with does not fill this disk", run.ErrUnsupported)
	}
	f, err := os.OpenFile(filepath.Join(m.data(), ballast), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("fill disk: %w", err)
	}
	for chunk := make([]byte, 1<<20); len(chunk) > 0; {
		if _, err = f.Write(chunk); err != nil {
			chunk = chunk[:len(chunk)/2]
		}
		if err != nil && !errors.Is(err, syscall.ENOSPC) {
			return errors.Join(fmt.Errorf("fill disk: %w", err), f.Close())
		}
	}
	return f.Close()
}

// freeDisk makes room again.
func freeDisk(m *member) error {
	err := os.Remove(filepath.Join(m.data(), ballast))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("free disk: %w", err)
	}
	return nil
}

// copyDisk makes a directory a copy of another one, but for the ballast.
func copyDisk(from, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return fmt.Errorf("copy disk: %w", err)
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return fmt.Errorf("copy disk: %w", err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		return fmt.Errorf("copy disk: %w", err)
	}
	return os.RemoveAll(filepath.Join(to, ballast))
}

// putBack replaces what is in a directory, which may be a mount point, by a copy.
func putBack(backup, dir string) error {
	if _, err := os.Stat(backup); err != nil {
		return fmt.Errorf("put backup back: %w", err)
	}
	old, err := os.ReadDir(dir)
	for _, e := range old {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	if err != nil {
		return fmt.Errorf("put backup back: %w", err)
	}
	if err := os.CopyFS(dir, os.DirFS(backup)); err != nil {
		return fmt.Errorf("put backup back: %w", err)
	}
	return nil
}

// flipBit flips a bit in the middle of a store's largest table; false when there
// is no table.
func flipBit(data string) (bool, error) {
	tables, err := filepath.Glob(filepath.Join(data, "store", "*.sst"))
	if err != nil {
		return false, err
	}
	largest, size := "", int64(0)
	for _, t := range tables {
		if info, err := os.Stat(t); err == nil && info.Size() > size { // a compaction may take it away
			largest, size = t, info.Size()
		}
	}
	if largest == "" {
		return false, nil
	}
	f, err := os.OpenFile(largest, os.O_RDWR, 0)
	if err != nil {
		return false, fmt.Errorf("flip a bit: %w", err)
	}
	var b [1]byte
	_, err = f.ReadAt(b[:], size/2)
	if err == nil {
		b[0] ^= 4
		_, err = f.WriteAt(b[:], size/2)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return false, fmt.Errorf("flip a bit in %s: %w", largest, err)
	}
	return true, nil
}
