package api

import (
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strings"
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

// packageName matches the name that a sentinel of ours begins with, where a part of an
// error's text begins. A test holds it together with the sentinels of the tree.
var packageName = regexp.MustCompile(`(^|: |\(|; |\n)(?:` + strings.Join([]string{
	"api", "archive", "bench", "bundle", "catalog", "change", "city", "command", "crdt", "demo", "dispatch", "document", "engine", "event", "federation",
	"identity", "indicator", "input", "instant", "local", "netns", "node", "outage", "reading", "relay", "replication", "report", "responder", "review", "run", "scenario",
	"sim", "store", "strictjson", "tiers", "track", "transport", "view", "wire",
}, "|") + `): `)

// Words is the text of an error for people: without the names of packages that its
// sentinels begin with, and with nothing said twice in a row. It is for the edges, the
// answers of the API and what a command ends with; a log keeps the whole text.
func Words(err error) string {
	text := err.Error()
	for packageName.MatchString(text) {
		text = packageName.ReplaceAllString(text, "$1")
	}
	return strings.Join(once(strings.Split(text, ": ")), ": ")
}

// once takes out what stands twice in a row, be it several parts long.
func once(parts []string) []string {
	for i := 0; i < len(parts); i++ {
		for n := 1; i+2*n <= len(parts); n++ {
			if slices.Equal(parts[i:i+n], parts[i+n:i+2*n]) {
				parts = slices.Delete(parts, i, i+n)
				n = 0
			}
		}
	}
	return parts
}
