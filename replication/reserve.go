package replication

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// reserveFile is what a node gives up to be able to start on a full disk.
const reserveFile = "reserve"

// reserve keeps a file of the configured size in the directory. When there is
// no room for it, or less room than it takes, it is given up until a start with
// more.
func (g *Group) reserve() error {
	path, size := filepath.Join(g.cfg.Dir, reserveFile), g.cfg.Disk.ReserveBytes
	if size == 0 {
		return nil
	}
	var fs syscall.Statfs_t
	if err := syscall.Statfs(g.cfg.Dir, &fs); err != nil {
		return fmt.Errorf("look at the disk of %s: %w", g.cfg.Dir, err)
	}
	free := int64(fs.Bavail) * fs.Bsize
	info, err := os.Stat(path)
	has := err == nil && info.Size() == size
	if has && free >= size || !has && free >= 4*size {
		if has {
			return nil
		}
		return makeReserve(path, size)
	}
	g.cfg.Logger.Warn("the disk is nearly full: the reserve is given up; free some space and start again", "free_bytes", free+size)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("give up the reserve: %w", err)
	}
	return nil
}

func makeReserve(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("make the reserve: %w", err)
	}
	err = syscall.Fallocate(int(f.Fd()), 0, 0, size)
	if errors.Is(err, syscall.EOPNOTSUPP) {
		err = os.Remove(path) // a file system that cannot promise room
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("make the reserve: %w", err)
	}
	return nil
}

// diskError says what to do about a failed write.
func diskError(what string, err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("%s: %w: free some space and start the node again; nothing that was acknowledged is lost", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
