package replication

import (
	"context"
	"fmt"

	"github.com/tiermesh/tiermesh/crdt"
	"github.com/tiermesh/tiermesh/replication/store"
)

// The formats of what nodes of a site write for each other: the entries of their log
// and what these mean. A node reads every format up to its own. It writes the site's,
// a number of the replicated state, which is raised when each member has a build that
// reads the higher one; until then a member may go back to the build before. What
// changes the outcome of a command, or what the store holds after it, takes a format
// of its own: the nodes must agree on it, too.
const (
	// formatPlain is that of builds before there were numbers: a command an entry, or
	// an array of them.
	formatPlain = 1
	// formatPacked adds packed entries, and commands 9 and 10.
	formatPacked = 2
	// formatGaps adds readings without a value, and which numbers are values when
	// readings are dropped.
	formatGaps = 3
)

// Format is the newest format of this build.
const Format = formatGaps

// formatCommand raises the site's format; see [Group.Raise].
type formatCommand struct {
	To uint32 `cbor:"1,keyasint"`
}

// compareCommand has each node take the digest of its state; see [Group.Compare].
type compareCommand struct{}

// Compared is a node's state after a log entry.
type Compared struct {
	Index  uint64
	Digest crdt.Hash
}

// readable refuses a store whose site writes a newer format than this node reads. The
// error wraps [ErrFormat].
func readable(st *store.Store, format uint32) error {
	if at := st.SiteFormat(); at > format {
		return fmt.Errorf("%w: the site writes format %d, this build reads up to %d: install a build that reads it", ErrFormat, at, format)
	}
	return nil
}

// runFormat raises the site's format. A node that cannot read it ends.
func (f *fsm) runFormat(tx *store.Tx, to uint32) error {
	if to > f.format {
		return fmt.Errorf("%w: the site's format rises to %d, this build reads up to %d: install a build that reads it", ErrFormat, to, f.format)
	}
	return tx.RaiseSiteFormat(to)
}

// runCompare notes the digest of the state before this entry.
func (f *fsm) runCompare(tx *store.Tx) error {
	if !tx.Empty() {
		return errAlone
	}
	d, err := f.store.StateDigest()
	if err == nil {
		f.compared.Store(&Compared{Index: f.index, Digest: d})
	}
	return err
}

// Formats returns the newest format that this node reads, and the site's; the latter
// is never above the former.
func (g *Group) Formats() (reads, site uint32) {
	return g.cfg.Siblings.Format, max(g.store.SiteFormat(), formatPlain)
}

// Raise raises the site's format. Whoever calls it has asked each member whether it
// reads that: one that does not ends. It is idempotent. The error wraps [ErrFormat] for
// one that this node does not read, [ErrNotLeader] or [ErrUnknown].
func (g *Group) Raise(ctx context.Context, to uint32) error {
	reads, at := g.Formats()
	if to > reads {
		return fmt.Errorf("%w: format %d: this build reads up to %d", ErrFormat, to, reads)
	}
	if to <= at {
		return nil
	}
	_, err := g.propose(ctx, command{Format: &formatCommand{To: to}})
	return err
}

// WritesGaps reports whether all nodes of the site read batches of gaps; until then
// none is to be written.
func (g *Group) WritesGaps() bool {
	_, at := g.Formats()
	return at >= formatGaps
}

// isNew reports whether nothing was written to this group, and this node is all of
// it: then there is no older build to mind.
func (g *Group) isNew() bool {
	members, err := g.Members()
	return err == nil && len(members) == 1 && g.store.SiteFormat() == 0 && g.store.Counts().Records == 0
}

// Compare has every node of the site take the digest of its state at one log entry, and
// returns this node's; [Group.Compared] is how the others tell theirs. The error wraps
// [ErrFormat] while the site's format has no such command, [ErrNotLeader] or
// [ErrUnknown].
func (g *Group) Compare(ctx context.Context) (Compared, error) {
	if _, at := g.Formats(); at < formatPacked {
		return Compared{}, fmt.Errorf("%w: nodes compare from format %d on, the site's is %d", ErrFormat, formatPacked, at)
	}
	if _, err := g.propose(ctx, command{Compare: &compareCommand{}}); err != nil {
		return Compared{}, err
	}
	return g.Compared(), nil
}

// Compared returns the last digest that this node took; zero for none.
func (g *Group) Compared() Compared {
	if c := g.fsm.compared.Load(); c != nil {
		return *c
	}
	return Compared{}
}
