package replication

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/tiermesh/tiermesh/replication/archive"
	"github.com/tiermesh/tiermesh/replication/store"
	"github.com/tiermesh/tiermesh/tiers"
)

// backupFormat names the kind and version of a backup's meta.
const backupFormat = "tiermesh backup v1"

// ErrNoBackup reports an archive that is not a backup, or not of this site.
var ErrNoBackup = errors.New("replication: not a backup of this site")

// BackupInfo is what a backup says of itself.
type BackupInfo struct {
	Format     string       `json:"format"`
	Federation string       `json:"federation"`
	Site       tiers.SiteID `json:"site"`
	// Incarnation is that of the site when the backup was made.
	Incarnation uint32 `json:"incarnation"`
	// TimeMS is when it was made, in Unix milliseconds.
	TimeMS int64 `json:"time_ms"`
}

// Backup writes a consistent copy of the site's state to w, as an archive
// (package archive), while the site goes on. It costs a flush, hard links and
// the reading.
func (g *Group) Backup(w io.Writer) (err error) {
	dir, err := os.MkdirTemp(g.cfg.Dir, "backup-")
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	checkpoint := filepath.Join(dir, "store")
	if err := g.store.Checkpoint(checkpoint); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	meta, err := json.Marshal(BackupInfo{
		Format: backupFormat, Federation: g.cfg.Federation, Site: g.cfg.Site,
		Incarnation: g.store.Incarnation(), TimeMS: g.cfg.Now().UnixMilli(),
	})
	if err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	if err := archive.Pack(w, meta, checkpoint); err != nil {
		return fmt.Errorf("backup: %w", err)
	}
	return nil
}

// CheckBackup reads a backup to its end and returns what it says of itself. The
// error wraps [archive.ErrDamaged] or [ErrNoBackup].
func CheckBackup(r io.Reader) (BackupInfo, error) {
	meta, err := archive.Check(r)
	if err != nil {
		return BackupInfo{}, err
	}
	return backupInfo(meta)
}

func backupInfo(meta []byte) (info BackupInfo, err error) {
	if err := json.Unmarshal(meta, &info); err != nil || info.Format != backupFormat {
		return info, errors.Join(fmt.Errorf("%w: %.40q", ErrNoBackup, meta), err)
	}
	return info, nil
}

// Restore makes a node's directory from a backup of its site: the state as it
// was, in a new incarnation, with an empty Raft log. What the site shipped
// after the backup its peers give back. dir must not exist or be empty. The
// error wraps [archive.ErrDamaged], [archive.ErrExists] or [ErrNoBackup].
func Restore(r io.Reader, dir, federation string, site tiers.SiteID) (info BackupInfo, err error) {
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return info, fmt.Errorf("%w: %s is not empty", archive.ErrExists, dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return info, fmt.Errorf("restore: %w", err)
	}
	path := filepath.Join(dir, "store")
	meta, err := archive.Unpack(r, path)
	if err != nil {
		return info, err
	}
	// From here on a failure takes away what was unpacked.
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(path))
		}
	}()
	if info, err = backupInfo(meta); err != nil {
		return info, err
	}
	if info.Federation != federation || info.Site != site {
		return info, fmt.Errorf("%w: it is of site %s of federation %q, this node is of %s of %q",
			ErrNoBackup, info.Site, info.Federation, site, federation)
	}
	st, err := store.Open(store.Config{Dir: path, Federation: federation, Site: site})
	if err != nil {
		return info, err
	}
	err = st.Rebase()
	info.Incarnation = st.Incarnation()
	if err := errors.Join(err, st.Close()); err != nil {
		return info, err
	}
	return info, markBootstrap(dir)
}
