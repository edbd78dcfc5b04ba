package replication

import (
	"errors"

	"github.com/tiermesh/tiermesh/replication/store"
)

// Sentinels that this package's functions wrap; compare with errors.Is. A
// write that fails with none of these three was rejected: it had no effect and
// the same command will not have one later.
var (
	// ErrNotLeader reports a write at a node that does not lead its site; it
	// had no effect.
	ErrNotLeader = errors.New("replication: not leader")
	// ErrUnknown reports a write whose outcome is not known: it may or may not
	// take effect. Retry it with the same idempotency key.
	ErrUnknown = errors.New("replication: outcome unknown")
	// ErrTooLarge rejects a command that makes too large a log entry; split it.
	ErrTooLarge = errors.New("replication: command too large")
	// ErrClosed reports a use after Close; the store says the same.
	ErrClosed = store.ErrClosed
)

// ErrBehind reports a store that lost entries which the Raft log no longer has.
var ErrBehind = errors.New("replication: store is behind its Raft log")

// ErrDamaged reports a store in which bytes are not what was written. The message
// says what to run.
var ErrDamaged = errors.New("replication: damaged store")

// ErrRepair refuses a repair or a salvage as things stand; nothing was changed.
var ErrRepair = errors.New("replication: no repair")

// ErrBadCommand rejects a command that breaks a rule.
var ErrBadCommand = errors.New("replication: bad command")

// ErrFormat reports what this build cannot read, or must not be made yet: the site's
// nodes do not all have the build that it takes. A node that cannot read an entry
// ends, since it would go on with another state than the others.
var ErrFormat = errors.New("replication: format of another build")

// rejections are the sentinels that cross the state machine as numbers, so
// that an outcome is the same value on every node.
var rejections = []error{
	1: store.ErrMoved,
	2: store.ErrBadChange,
	3: store.ErrGap,
	4: store.ErrFork,
	5: ErrBadCommand,
	6: store.ErrHeld,
	7: store.ErrFenced,
	8: store.ErrBadClaim,
}

// rejectionCode returns the number of the sentinel that err wraps, or 0.
func rejectionCode(err error) int {
	for code, sentinel := range rejections {
		if code > 0 && errors.Is(err, sentinel) {
			return code
		}
	}
	return 0
}
