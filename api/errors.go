package api

import (
	"errors"
	"net/http"
)

// Sentinels that backends wrap and clients return; compare with errors.Is.
var (
	// ErrInvalid reports a request that breaks a rule.
	ErrInvalid = errors.New("invalid request")
	// ErrNotFound reports something that this site does not hold.
	ErrNotFound = errors.New("not found")
	// ErrRejected reports a write that may not be made as things stand.
	ErrRejected = errors.New("rejected")
	// ErrUnknownOutcome reports a write that may or may not take effect; retry
	// it with the same key.
	ErrUnknownOutcome = errors.New("outcome unknown")
	// ErrUnauthorized reports a request over a port that does not bear the node's token.
	ErrUnauthorized = errors.New("unauthorized")
	// ErrForbidden reports a request over a port that a page of another origin makes, or
	// that is meant for another host.
	ErrForbidden = errors.New("forbidden")
	// ErrUnavailable reports a node that cannot serve the request now.
	ErrUnavailable = errors.New("unavailable")
	// ErrUnreachable reports that no node answers at the address.
	ErrUnreachable = errors.New("no node answers")
	// ErrBusy reports an address on which another process listens.
	ErrBusy = errors.New("api: address in use")
	// ErrAddress reports an address that the API may not or cannot listen on.
	ErrAddress = errors.New("api: cannot listen")
)

// codes is the one table between sentinels, codes and HTTP statuses.
var codes = []struct {
	err    error
	code   string
	status int
}{
	{ErrInvalid, "invalid", http.StatusBadRequest},
	{ErrNotFound, "not_found", http.StatusNotFound},
	{ErrRejected, "rejected", http.StatusConflict},
	{ErrUnauthorized, "unauthorized", http.StatusUnauthorized},
	{ErrForbidden, "forbidden", http.StatusForbidden},
	{ErrUnknownOutcome, "unknown", http.StatusGatewayTimeout},
	{ErrUnavailable, "unavailable", http.StatusServiceUnavailable},
}

// Code returns the code and HTTP status of an error; "internal" for one that
// wraps no sentinel.
func Code(err error) (string, int) {
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.code, c.status
		}
	}
	return "internal", http.StatusInternalServerError
}

// fromCode is the inverse of [Code]; nil for "internal".
func fromCode(code string) error {
	for _, c := range codes {
		if c.code == code {
			return c.err
		}
	}
	return nil
}
