package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/tiermesh/tiermesh/tiers"
)

// Site is what the server asks about the node's place among the nodes of its
// site. Implementations are safe for concurrent use; their errors wrap this
// package's sentinels.
type Site interface {
	// Leader returns the identity of the member that leads the site, after a
	// short wait for one, and whether that is this node.
	Leader(ctx context.Context) (id string, self bool, err error)
	// Upward says how the site stands with those above it, at no cost.
	Upward() Upward
	// Linearize returns when this node, as leader, has applied every write that
	// was acknowledged before the call.
	Linearize(ctx context.Context) error
	// DialMember opens a stream to a member's API.
	DialMember(ctx context.Context, id string) (net.Conn, error)
	// Node describes this node to the others.
	Node(ctx context.Context) (NodeInfo, error)
	// Members lists the site's members, with what each says of itself.
	Members(ctx context.Context) ([]MemberStatus, error)
	// ChangeMember carries out a change of membership, as leader.
	ChangeMember(ctx context.Context, c MemberChange) (MemberStatus, error)
}

// NodeInfo is what a node says of itself to the other nodes of its site.
type NodeInfo struct {
	Site tiers.SiteID `json:"site"`
	Node uint32       `json:"node"`
	// ID is the identity of the node's disk.
	ID string `json:"id"`
	// Fresh says that the disk has never been in a group.
	Fresh bool `json:"fresh"`
	// Last, Commit and Applied are Raft indexes.
	Last    uint64 `json:"last"`
	Commit  uint64 `json:"commit"`
	Applied uint64 `json:"applied"`
	Term    uint64 `json:"term"`
	// Digest is over every chain's head; equal at equal Applied.
	Digest string `json:"digest"`
	NodeFormats
}

// NodeFormats are what a node's build reads, and what its site writes; see
// replication.Format.
type NodeFormats struct {
	// Format is the newest format that the node reads; zero in builds before formats had
	// numbers. SiteFormat is the site's, as the node has it.
	Format     uint32 `json:"format,omitempty"`
	SiteFormat uint32 `json:"site_format,omitempty"`
	// ComparedAt is the log entry at which the site's nodes last compared what they hold,
	// ComparedDigest what this one held there.
	ComparedAt     uint64 `json:"compared_at,omitempty"`
	ComparedDigest string `json:"compared_digest,omitempty"`
}

// MemberStatus is one member of the site's group.
type MemberStatus struct {
	ID   string `json:"id"`
	Node uint32 `json:"node"`
	Addr string `json:"addr"`
	// Role is leader, voter or non-voter.
	Role string `json:"role"`
	// Info is what the member says of itself; nil when it does not answer, and
	// Error says why.
	Info  *NodeInfo `json:"info,omitempty"`
	Error string    `json:"error,omitempty"`
}

// The changes of membership.
const (
	MemberAdd      = "add"
	MemberRemove   = "remove"
	MemberPromote  = "promote"
	MemberTransfer = "transfer"
	// MemberUpgrade raises the site's format to the newest that every member reads.
	MemberUpgrade = "upgrade"
)

// MemberChange asks for a change of membership.
type MemberChange struct {
	// Do is add, remove, promote, transfer or upgrade.
	Do string `json:"do"`
	// ID names a member: its identity, or its node's number when that is enough.
	// Empty for add; for transfer, empty means whoever is most up to date.
	ID string `json:"id,omitempty"`
	// Node and Addr are of the node to add.
	Node uint32 `json:"node,omitempty"`
	Addr string `json:"addr,omitempty"`
}

// The read levels; see the package comment for what each may miss.
const (
	ReadStale        = "stale"
	ReadLeader       = "leader"
	ReadLinearizable = "linearizable"
)

// innerKey marks requests that came from another node of the site.
type innerKey struct{}

// place serves a request here or at the leader, as its read level demands:
// writes to the site always go to the leader.
func (s *Server) place(here http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		level, err := readLevel(r)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		if level == ReadStale {
			here.ServeHTTP(w, r)
			return
		}
		id, self, err := s.cfg.Site.Leader(r.Context())
		switch {
		case err != nil:
			s.fail(w, r, err)
		case !self && r.Context().Value(innerKey{}) != nil:
			s.fail(w, r, fmt.Errorf("%w: the leadership moved to %s; it had no effect: try again", ErrUnavailable, id))
		case !self && streamed[r.URL.Path]:
			s.unhurried(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.stream(w, r, id) })).ServeHTTP(w, r)
		case !self:
			s.forward(w, r, here, id)
		default:
			if level == ReadLinearizable {
				if err := s.cfg.Site.Linearize(r.Context()); err != nil {
					s.fail(w, r, err)
					return
				}
			}
			s.serveHere(w, r, here)
		}
	})
}

// serveHere serves a request that is this node's to serve.
func (s *Server) serveHere(w http.ResponseWriter, r *http.Request, here http.Handler) {
	if err := s.writable(w, r); err != nil {
		s.fail(w, r, err)
		return
	}
	here.ServeHTTP(w, r)
}

// readLevel returns the level that a request asks for; a write's is leader, but a
// repair is of this node.
func readLevel(r *http.Request) (string, error) {
	if ofThisNode(r.URL.Path) {
		return ReadStale, nil
	}
	if r.Method != http.MethodGet {
		return ReadLeader, nil
	}
	q := r.URL.Query()
	level := q.Get("read")
	switch level {
	case "":
		if r.URL.Path == silencePath {
			return ReadLeader, nil
		}
		return ReadStale, nil
	case ReadStale, ReadLeader, ReadLinearizable:
		return level, nil
	default:
		return "", fmt.Errorf("%w: read %q: want %s, %s or %s", ErrInvalid, level, ReadStale, ReadLeader, ReadLinearizable)
	}
}

// errDial marks a leader that was not reached: the request had no effect.
var errDial = errors.New("the leader was not reached")

// forwardTimeout bounds how long a request is passed on again when the leader
// is lost; forwardPause is between two attempts.
const (
	forwardTimeout = 10 * time.Second
	forwardPause   = 50 * time.Millisecond
)

// forward passes a request to the member that leads. When that one is lost, it
// goes to the next: a write's key makes this safe. A change of membership has
// none, and is not repeated once it may have had an effect.
func (s *Server) forward(w http.ResponseWriter, r *http.Request, here http.Handler, id string) {
	payload, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bodyMax(r.URL.Path)+1))
	if err != nil {
		s.fail(w, r, fmt.Errorf("%w: body: %w", ErrInvalid, err))
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), forwardTimeout)
	defer cancel()
	for {
		resp, err := s.pass(ctx, r, payload, id)
		safe := errors.Is(err, errDial) || r.Method == http.MethodGet
		lost := err != nil || resp.StatusCode == http.StatusServiceUnavailable || resp.StatusCode == http.StatusGatewayTimeout
		if lost && (safe || r.URL.Path != "/v1/members") && pause(ctx) {
			if resp != nil {
				_ = resp.Body.Close()
			}
			next, self, lerr := s.cfg.Site.Leader(ctx)
			if lerr == nil && self {
				r.Body = io.NopCloser(bytes.NewReader(payload))
				s.serveHere(w, r, here)
				return
			}
			if lerr == nil {
				id = next
			}
			continue
		}
		switch {
		case err == nil:
			relay(w, resp)
		case safe:
			s.fail(w, r, fmt.Errorf("%w: leader %s: %w", ErrUnavailable, id, err))
		default:
			s.fail(w, r, fmt.Errorf("%w: leader %s: %w", ErrUnknownOutcome, id, err))
		}
		return
	}
}

// pause waits a little and reports whether there is time for another attempt.
func pause(ctx context.Context) bool {
	select {
	case <-time.After(forwardPause):
		return true
	case <-ctx.Done():
		return false
	}
}

// pass sends a request to a member and returns its answer.
func (s *Server) pass(ctx context.Context, r *http.Request, payload []byte, id string) (*http.Response, error) {
	out, err := http.NewRequestWithContext(ctx, r.Method, "http://"+id+r.URL.RequestURI(), bytes.NewReader(payload)) //nolint:gosec // the host is a member, which dialLeader looks up
	if err != nil {
		return nil, err
	}
	out.Header.Set("Content-Type", r.Header.Get("Content-Type"))
	return s.toLeader.RoundTrip(out)
}

// relay copies a member's answer.
func relay(w http.ResponseWriter, resp *http.Response) {
	defer func() { _ = resp.Body.Close() }()
	for _, name := range []string{"Content-Type", "Retry-After", waitsHeader} {
		if v := resp.Header.Get(name); v != "" {
			w.Header().Set(name, v)
		}
	}
	w.WriteHeader(resp.StatusCode)
	_, _ = io.Copy(w, resp.Body) // the client went away; nobody is left to tell
}

// dialLeader opens a stream to the member that a forwarded request's host names.
func (s *Server) dialLeader(ctx context.Context, _, addr string) (net.Conn, error) {
	id, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	c, err := s.cfg.Site.DialMember(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDial, err)
	}
	return c, nil
}

func (s *Server) members(r *http.Request) (any, error) {
	m, err := s.cfg.Site.Members(r.Context())
	return MemberList{Members: m}, err
}

// MemberList is the answer to a request for the members.
type MemberList struct {
	Members []MemberStatus `json:"members"`
}

func (s *Server) changeMember(r *http.Request) (any, error) {
	var c MemberChange
	if err := body(r, &c); err != nil {
		return nil, err
	}
	switch c.Do {
	case MemberAdd:
		if c.Node == 0 || c.Addr == "" {
			return nil, fmt.Errorf("%w: add needs node and addr", ErrInvalid)
		}
	case MemberRemove, MemberPromote:
		if c.ID == "" {
			return nil, fmt.Errorf("%w: %s needs id", ErrInvalid, c.Do)
		}
	case MemberTransfer, MemberUpgrade:
	default:
		return nil, fmt.Errorf("%w: do %q: want add, remove, promote, transfer or upgrade", ErrInvalid, c.Do)
	}
	return s.cfg.Site.ChangeMember(r.Context(), c)
}
