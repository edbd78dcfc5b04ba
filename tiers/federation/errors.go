package federation

import (
	"errors"
	"fmt"

	"github.com/tiermesh/tiermesh/transport/wire"
)

// Sentinels that this package's functions wrap; compare with errors.Is.
var (
	// ErrFork reports two different histories that claim the same place of a chain.
	ErrFork = errors.New("federation: fork")
	// ErrBundle reports a bundle or request that is torn, altered or not signed by
	// the site that it names.
	ErrBundle = errors.New("federation: not a whole and genuine bundle")
	// ErrForeign reports a bundle or request that is meant for another site or
	// federation.
	ErrForeign = errors.New("federation: meant for another site")
	// ErrCertificate reports a certificate that does not prove what it says.
	ErrCertificate = errors.New("federation: certificate does not hold")
)

// RefusedError is why records from elsewhere are not taken in, with the code that
// tells a peer. One of a fork wraps [ErrFork].
type RefusedError struct {
	Code   wire.Code
	Reason string
	// Seq is the place of a fork.
	Seq  uint64
	fork bool
}

// Error implements error.
func (r *RefusedError) Error() string { return r.Reason }

// Is says that a fork is an [ErrFork].
func (r *RefusedError) Is(target error) bool { return target == ErrFork && r.fork }

func refuse(code wire.Code, format string, args ...any) *RefusedError {
	return &RefusedError{Code: code, Reason: fmt.Sprintf(format, args...)}
}
