package api

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"

	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/event"
)

// ShortMin is how many of an identifier's last characters name it at least.
const ShortMin = 6

// shortDigits is how many of them lists show.
const shortDigits = 8

// ResolveResult is the identifier that a text names.
type ResolveResult struct {
	ID tiers.DocID `json:"id"`
}

// uuidID is an identifier whose name is a UUID.
var uuidID = regexp.MustCompile(`^[a-z]+:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// Short is what lists show of an identifier: the last digits of a UUID, since those of
// one import begin alike; any other one as it is.
func Short(id string) string {
	if !uuidID.MatchString(id) {
		return id
	}
	return id[len(id)-shortDigits:]
}

// shortForm is what may be the end of a UUID.
var shortForm = regexp.MustCompile(`^([a-z]+:)?[0-9a-f-]{6,35}$`)

// IsShort reports whether a text may be a short identifier, which [Client.Resolve]
// looks up.
func IsShort(text string) bool { return shortForm.MatchString(text) }

// resolve says which document a text names. Writes take full identifiers alone: what
// ends in some digits now may be two documents when a write is repeated.
func (s *Server) resolve(r *http.Request) (any, error) {
	for name := range r.URL.Query() {
		if name != "kind" && name != "read" {
			return nil, fmt.Errorf("%w: unknown parameter %q: want kind", ErrInvalid, name)
		}
	}
	id, err := s.cfg.Backend.Resolve(r.Context(), cmp.Or(r.URL.Query().Get("kind"), event.Kind), r.PathValue("name"))
	return ResolveResult{ID: id}, err
}

// Resolve returns the identifier of a kind that a text names, in full or by its last
// digits. The error wraps [ErrNotFound], or [ErrRejected] for what several have.
func (c *Client) Resolve(ctx context.Context, kind, text string) (tiers.DocID, error) {
	q := c.values()
	q.Set("kind", kind)
	var out ResolveResult
	err := c.do(ctx, http.MethodGet, "/v1/ids/"+url.PathEscape(text)+"?"+q.Encode(), nil, &out)
	return out.ID, err
}
