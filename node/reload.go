package node

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tiermesh/tiermesh/api"
	"github.com/tiermesh/tiermesh/replication"
	"github.com/tiermesh/tiermesh/transport/identity"
)

// reloading is a node's configuration and what it remembers of the files that it reads
// again.
type reloading struct {
	cfg  Config // as at the start; what can change while the node runs is in live
	live atomic.Pointer[Config]

	rereading sync.Mutex // held while files are read again; guards the fields below
	// The files' marks when they were last read.
	credentialsSeen, topologySeen map[string]fileMark
}

// fileMark changes with a file.
type fileMark struct {
	at   time.Time
	size int64
}

// marks returns those of files; one that is not there has none.
func marks(paths ...string) map[string]fileMark {
	out := map[string]fileMark{}
	for _, path := range paths {
		if info, err := os.Stat(path); err == nil {
			out[path] = fileMark{info.ModTime(), info.Size()}
		}
	}
	return out
}

func (n *Node) credentialMarks() map[string]fileMark {
	paths, _ := filepath.Glob(filepath.Join(n.cfg.Credentials, "*")) // the pattern is right
	return marks(paths...)
}

// config returns the configuration in force.
func (n *Node) config() Config { return *n.live.Load() }

// Reload reads credentials and topology file again and puts cfg in force, as far as
// that is possible while the node runs. What cannot be read, does not fit or does not
// check leaves in force what is, with a line in the log and an alarm. A failed is why
// there is no configuration to put in force; nil when there is.
func (n *Node) Reload(ctx context.Context, cfg Config, failed error) {
	n.rereading.Lock()
	defer n.rereading.Unlock()
	if failed == nil {
		failed = cfg.Validate()
	}
	if failed != nil {
		n.notReloaded(alarmConfiguration, "the configuration", failed)
	} else {
		n.reconfigure(cfg)
	}
	n.reloadCredentials(true)
	n.reloadTopology(ctx, true)
}

// reloadEvery is how often the files of credentials and topology are looked at.
const reloadEvery = time.Minute

// runReload looks at credentials and topology file until ctx ends.
func (n *Node) runReload(ctx context.Context) error {
	tick := time.NewTicker(reloadEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			n.reread(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

// reread reads credentials and topology file again when they have changed.
func (n *Node) reread(ctx context.Context) {
	n.rereading.Lock()
	defer n.rereading.Unlock()
	n.reloadCredentials(false)
	n.reloadTopology(ctx, false)
}

// notReloaded tells the operator.
func (n *Node) notReloaded(kind alarmKind, what string, err error) {
	n.log.Warn("not taken over: what is in force stays", "what", what, "err", err)
	n.alarms.raise(kind, what, fmt.Sprintf("%s was read again and not taken over, what is in force stays: %v", what, err))
}

// reconfigure puts in force what can be, and names what needs a restart.
func (n *Node) reconfigure(cfg Config) {
	old := n.config()
	next := old
	next.StandInAfter, next.UpgradeAfter, next.Duplicates = cfg.StandInAfter, cfg.UpgradeAfter, cfg.Duplicates
	for _, f := range []struct {
		key    string
		differ bool
	}{
		{"stand_in_after", old.StandInAfter != cfg.StandInAfter}, {"upgrade_after", old.UpgradeAfter != cfg.UpgradeAfter},
		{"duplicates", old.Duplicates != cfg.Duplicates},
	} {
		if f.differ {
			n.log.Info("configuration taken over", "key", f.key)
		}
	}
	for _, f := range []struct {
		key    string
		differ bool
	}{
		{"dir", old.Dir != cfg.Dir}, {"credentials", old.Credentials != cfg.Credentials}, {"topology", old.Topology != cfg.Topology},
		{"listen", old.Listen != cfg.Listen}, {"api", old.API != cfg.API}, {"area", fmt.Sprint(old.Area) != fmt.Sprint(cfg.Area)},
	} {
		if f.differ {
			n.log.Warn("configuration changed, a restart is needed for it", "key", f.key)
		}
	}
	n.live.Store(&next)
}

// reloadCredentials puts renewed credentials in force: all of them or none.
func (n *Node) reloadCredentials(asked bool) {
	now := n.credentialMarks()
	if !asked && maps.Equal(now, n.credentialsSeen) {
		return
	}
	n.credentialsSeen = now
	creds, err := identity.Load(n.cfg.Credentials)
	before := n.endpoint.Credentials().Certificate.Leaf
	if err == nil {
		err = n.endpoint.Renew(creds)
	}
	switch {
	case err != nil:
		n.notReloaded(alarmCredentials, "credentials "+n.cfg.Credentials, err)
	case creds.Certificate.Leaf.Equal(before):
		n.log.Info("credentials are as they were")
	default:
		n.log.Info("renewed certificate in force for new links", "valid_until", creds.Certificate.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
}

// reloadTopology puts the topology file in force when it is newer and may follow; the
// city publishes it, as at its start.
func (n *Node) reloadTopology(ctx context.Context, asked bool) {
	seen := marks(n.cfg.Topology)
	if !asked && maps.Equal(seen, n.topologySeen) {
		return
	}
	n.topologySeen = seen
	what := "topology file " + n.cfg.Topology
	now := n.Topology()
	t, err := readTopology(n.cfg.Topology)
	if err != nil {
		n.notReloaded(alarmTopology, what, err)
		return
	}
	if t.Version() <= now.Version() {
		n.log.Info("topology file is not newer than the topology in force", "version", t.Version(), "topology_version", now.Version())
		return
	}
	next, err := now.Succeed(copyDoc(t.Doc()))
	if err != nil {
		n.notReloaded(alarmTopology, what, err)
		return
	}
	n.enforce(next)
	if n.creds.ID.Site != next.City() || !n.group.Leads() {
		return // the city's next leader publishes what is newer
	}
	err = n.publishTopology(ctx)
	if err != nil && ctx.Err() == nil && !errors.Is(err, replication.ErrNotLeader) && !errors.Is(err, api.ErrUnavailable) {
		n.notReloaded(alarmTopology, what, fmt.Errorf("it is in force at this node and could not be published: %w", err))
	}
}
