package transport

import (
	"errors"
	"fmt"

	"github.com/tiermesh/tiermesh/transport/wire"
)

// Sentinels that this package's functions wrap; compare with errors.Is. A peer
// whose certificate is refused gives one of identity's.
var (
	// ErrClosed reports a use after Close.
	ErrClosed = errors.New("transport: closed")
	// ErrBusyPort reports an address that another process listens on.
	ErrBusyPort = errors.New("transport: address in use")
	// ErrPeerSite reports a peer that is another site than the one dialled.
	ErrPeerSite = errors.New("transport: peer is another site")
	// ErrRefused reports a peer that does not accept this end's certificate.
	ErrRefused = errors.New("transport: the peer refuses this node's certificate")
	// ErrConfig reports a configuration that cannot work.
	ErrConfig = errors.New("transport: invalid configuration")
)

// ClosedError says why a link is closed. It is an [ErrClosed].
type ClosedError struct {
	Code   wire.Code
	Reason string
	// Remote says that the peer closed it.
	Remote bool
}

// Error implements error.
func (e *ClosedError) Error() string {
	who := "this site"
	if e.Remote {
		who = "the peer"
	}
	return fmt.Sprintf("link closed by %s: %s: %s", who, e.Code, e.Reason)
}

// Is makes every ClosedError an [ErrClosed].
func (e *ClosedError) Is(target error) bool { return target == ErrClosed }
