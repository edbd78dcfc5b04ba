package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/tiermesh/tiermesh/tiers"
)

// Upward is how a site stands with the sites above it, as far as whoever writes at it
// should know.
type Upward struct {
	// Waits is set while there is no link to the parent.
	Waits *Waits
	// Retired says that the site has ended, as it knows by now: nothing that it would
	// take in could leave it. Instead is the nearest site above that has not ended.
	Retired bool
	Instead tiers.SiteID
}

// Waits says that a write is not on its way up yet. It goes when the link is back.
type Waits struct {
	// Site is the parent, to which there is no link since Since.
	Site  tiers.SiteID `json:"site"`
	Since time.Time    `json:"since"`
	// StandIn is a site further up that is linked to in its place.
	StandIn tiers.SiteID `json:"stand_in,omitempty"`
}

// String is a sentence for a person.
func (w Waits) String() string {
	text := fmt.Sprintf("not yet at %s: there is no link since %s", w.Site, w.Since.Format(time.RFC3339))
	if w.StandIn != "" {
		return text + fmt.Sprintf("; %s is linked in its place", w.StandIn)
	}
	return text + "; it is sent when the link is back"
}

// waitsHeader carries a [Waits] as JSON, on the answer to every write.
const waitsHeader = "Tiermesh-Waits"

// kept are requests that stay possible at a site that has ended although they are no
// GET: what concerns its nodes, proofs and bundles, and a question.
func kept(path string) bool {
	return ofThisNode(path) || path == "/v1/members" || strings.HasPrefix(path, "/v1/sync/") || strings.HasPrefix(path, "/v1/bundle/") ||
		strings.HasPrefix(path, "/v1/responders/") && strings.HasSuffix(path, "/check")
}

// retired is the error of a write at a site that has ended; nil elsewhere.
func (u Upward) retired() error {
	if !u.Retired {
		return nil
	}
	return fmt.Errorf("%w: this site is retired: what it took in now would reach nobody; write at %s instead; "+
		"what it holds stays readable", ErrRejected, u.Instead)
}

// writable refuses a write that would stay here for good, and marks the answer to one
// that stays here for now.
func (s *Server) writable(w http.ResponseWriter, r *http.Request) error {
	if r.Method == http.MethodGet || kept(r.URL.Path) {
		return nil
	}
	up := s.cfg.Site.Upward()
	if up.Waits != nil && r.URL.Query().Get("dry_run") != "true" {
		if b, err := json.Marshal(up.Waits); err == nil {
			w.Header().Set(waitsHeader, string(b))
		}
	}
	return up.retired()
}

// withWaits puts the mark of an answer into the result, where that has a place for it.
func withWaits(mark string, result any) any {
	if mark == "" || result == nil || reflect.TypeOf(result).Kind() != reflect.Struct {
		return result
	}
	var w Waits
	marked := reflect.New(reflect.TypeOf(result)).Elem()
	marked.Set(reflect.ValueOf(result))
	field := marked.FieldByName("Waits")
	if !field.IsValid() || field.Type() != reflect.TypeFor[*Waits]() || json.Unmarshal([]byte(mark), &w) != nil {
		return result
	}
	field.Set(reflect.ValueOf(&w))
	return marked.Interface()
}

// Noting returns a client that tells note of each write that is not on its way up yet.
// Note must be safe for concurrent use where the client is used so.
func (c *Client) Noting(note func(Waits)) *Client {
	other := *c
	other.note = note
	return &other
}

// noted passes an answer's mark on.
func (c *Client) noted(h http.Header) {
	var w Waits
	if mark := h.Get(waitsHeader); c.note != nil && mark != "" && json.Unmarshal([]byte(mark), &w) == nil {
		c.note(w)
	}
}
