package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/tiermesh/tiermesh/tiers"
)

// Sync is what a node offers about its links and in their stead. See [Backend].
type Sync interface {
	// SyncStatus returns the state of each link, or of those to one peer, and of
	// its streams when they are asked for.
	SyncStatus(ctx context.Context, q SyncQuery) (SyncStatus, error)
	// Forecast says what a reconnection to a peer would move.
	Forecast(ctx context.Context, q ForecastQuery) (Forecast, error)
	// Prove asks a peer over the live link whether both hold the same.
	Prove(ctx context.Context, peer tiers.SiteID) (ProveResult, error)
	// ExportBundle writes a bundle for another site. An error before the first
	// byte says why there is none; a bundle that ends early does not check.
	ExportBundle(ctx context.Context, q ExportQuery, w io.Writer) error
	// ImportBundle takes a bundle in.
	ImportBundle(ctx context.Context, r io.Reader) (ImportReport, error)
	// RequestBundle writes what this site holds, for a site that is to export
	// exactly the difference.
	RequestBundle(ctx context.Context, from tiers.SiteID, w io.Writer) error
}

// SyncQuery selects links.
type SyncQuery struct {
	Peer    tiers.SiteID // empty for all
	Streams bool
}

// SyncStatus is the state of a site's links.
type SyncStatus struct {
	Site  tiers.SiteID `json:"site"`
	Time  time.Time    `json:"time"`
	Links []LinkSync   `json:"links"`
}

// The sources of what is known of a peer.
const (
	BasisLive    = "live"         // the session of the link that is up
	BasisLast    = "last-session" // the last session since the node started
	BasisNothing = "nothing"      // no session since the node started
)

// LinkSync is the state of one link.
type LinkSync struct {
	Peer     tiers.SiteID `json:"peer"`
	PeerName string       `json:"peer_name"`
	// State is connected, connecting, refused, down or never, or another one that
	// says why nothing flows.
	State       string     `json:"state"`
	Since       *time.Time `json:"since,omitempty"`
	LastContact *time.Time `json:"last_contact,omitempty"`
	// Basis is where Out, In and Streams come from.
	Basis string  `json:"basis"`
	RTTMS float64 `json:"rtt_ms"`
	Rate  Rate    `json:"rate"`
	// Out is what the peer lacks, In what this site does; absent while nothing is
	// known of the peer.
	Out *Owed `json:"out,omitempty"`
	In  *Owed `json:"in,omitempty"`
	// Equal says that both ends hold the same now; ProvenEqualAt is when they last
	// showed each other.
	Equal         bool         `json:"equal"`
	ProvenEqualAt *time.Time   `json:"proven_equal_at,omitempty"`
	LastError     string       `json:"last_error,omitempty"`
	Streams       []StreamSync `json:"streams,omitempty"`
}

// Rate is how fast records moved, in bytes of records a second: now, and in the
// last transfer that was long enough to measure (zero for none).
type Rate struct {
	OutNow  float64 `json:"out_now_bps"`
	InNow   float64 `json:"in_now_bps"`
	OutLast float64 `json:"out_last_bps"`
	InLast  float64 `json:"in_last_bps"`
}

// Owed is what one end lacks.
type Owed struct {
	Records uint64 `json:"records"`
	Bytes   uint64 `json:"bytes"`
	// BytesEstimated says that Bytes follows from the mean size of records.
	BytesEstimated bool `json:"bytes_estimated"`
	// Oldest is the hybrid time of the oldest owed record, where this site holds
	// it.
	Oldest *time.Time `json:"oldest,omitempty"`
}

// StreamSync is the state of one stream on a link.
type StreamSync struct {
	Stream string `json:"stream"`
	Lane   int    `json:"lane"`
	// State is equal, owed, forked or unknown. A stream of a former parent that was
	// rolled back counts as forked, too: the two ends go on without that chain.
	State string `json:"state"`
	Out   Owed   `json:"out"`
	In    Owed   `json:"in"`
}

// ForecastQuery asks for a forecast; a RateBPS that is not zero stands in for
// what was measured, in bytes of records a second.
type ForecastQuery struct {
	Peer    tiers.SiteID
	RateBPS float64
}

// Forecast is what a reconnection would move.
type Forecast struct {
	Site  tiers.SiteID `json:"site"`
	Peer  tiers.SiteID `json:"peer"`
	Basis string       `json:"basis"`
	// RateSource is measured, given or unknown.
	RateSource string         `json:"rate_source"`
	Rate       Rate           `json:"rate"`
	RTTMS      float64        `json:"rtt_ms"`
	Lanes      []LaneForecast `json:"lanes"`
}

// LaneForecast is one lane's part: lower lanes wait for it.
type LaneForecast struct {
	Lane    int      `json:"lane"`
	Classes []string `json:"classes"`
	Out     Move     `json:"out"`
	In      Move     `json:"in"`
}

// Move is what moves one way.
type Move struct {
	Owed
	// DoneS is when the lane is done, in seconds from the reconnection on, as an
	// estimate; absent while no rate is known.
	DoneS *float64 `json:"done_s,omitempty"`
}

// ProveResult is what a peer answered.
type ProveResult struct {
	Equal bool `json:"equal"`
	// Certificate is signed by both ends; absent when they are not equal.
	Certificate json.RawMessage `json:"certificate,omitempty"`
	// Reason says why nothing was compared.
	Reason      string            `json:"reason,omitempty"`
	Differences []ChainDifference `json:"differences,omitempty"`
	// More says that there are other differences.
	More bool `json:"more,omitempty"`
}

// ChainDifference is a chain that both ends hold differently; at equal numbers
// the records differ.
type ChainDifference struct {
	Stream string `json:"stream"`
	Author string `json:"author"`
	Mine   uint64 `json:"mine"`
	Theirs uint64 `json:"theirs"`
}

// ExportQuery asks for a bundle.
type ExportQuery struct {
	For tiers.SiteID
	// Full leaves aside what is known of the site and exports everything.
	Full bool
	// Have is what the site wrote with RequestBundle; empty for none.
	Have []byte
}

// ImportReport is what became of a bundle's records.
type ImportReport struct {
	From            tiers.SiteID `json:"from"`
	TimeMS          int64        `json:"time_ms"`
	TopologyVersion uint64       `json:"topology_version"`
	Ranges          int          `json:"ranges"`
	// New records came in; Held were here before; Skipped are of ranges that are
	// in Gaps or Refused.
	New     uint64 `json:"new"`
	Held    uint64 `json:"held"`
	Skipped uint64 `json:"skipped"`
	// Gaps are ranges that begin beyond what this site holds.
	Gaps []ImportGap `json:"gaps"`
	// Refused are ranges that this site may not take in.
	Refused []ImportRefusal `json:"refused"`
}

// ImportGap says what is missing before a range: the records Holds+1 to Starts-1.
type ImportGap struct {
	Stream string `json:"stream"`
	Author string `json:"author"`
	Holds  uint64 `json:"holds"`
	Starts uint64 `json:"starts"`
}

// ImportRefusal says why a range was left out.
type ImportRefusal struct {
	Stream string `json:"stream"`
	Author string `json:"author"`
	Reason string `json:"reason"`
}

// syncRoutes adds what serves [Sync].
func (s *Server) syncRoutes(mux *http.ServeMux) {
	mux.Handle("GET /v1/sync", s.handle(s.syncStatus))
	mux.Handle("GET /v1/sync/{peer}/forecast", s.handle(s.forecast))
	mux.Handle("POST /v1/sync/{peer}/prove", s.handle(func(r *http.Request) (any, error) {
		return s.cfg.Backend.Prove(r.Context(), tiers.SiteID(r.PathValue("peer")))
	}))
	mux.Handle("GET /v1/bundle/request", http.HandlerFunc(s.requestBundle))
	mux.Handle("POST /v1/bundle/export", s.unhurried(http.HandlerFunc(s.exportBundle)))
	mux.Handle("POST /v1/bundle/import", s.unhurried(s.importBundle()))
}

// streamed are the paths whose bodies are as large as the difference is; they
// are passed on to the leader as they come, once.
var streamed = map[string]bool{"/v1/bundle/export": true, "/v1/bundle/import": true}

func (s *Server) syncStatus(r *http.Request) (any, error) {
	q := r.URL.Query()
	streams, err := flag(q.Get("streams"))
	if err != nil {
		return nil, err
	}
	return s.cfg.Backend.SyncStatus(r.Context(), SyncQuery{Peer: tiers.SiteID(q.Get("peer")), Streams: streams})
}

func flag(text string) (bool, error) {
	if text == "" {
		return false, nil
	}
	b, err := strconv.ParseBool(text)
	if err != nil {
		return false, fmt.Errorf("%w: %q: want true or false", ErrInvalid, text)
	}
	return b, nil
}

func (s *Server) forecast(r *http.Request) (any, error) {
	q := ForecastQuery{Peer: tiers.SiteID(r.PathValue("peer"))}
	if text := r.URL.Query().Get("rate_bps"); text != "" {
		rate, err := strconv.ParseFloat(text, 64)
		if err != nil || !(rate > 0) || rate > 1e15 {
			return nil, fmt.Errorf("%w: rate_bps %q: want bytes a second", ErrInvalid, text)
		}
		q.RateBPS = rate
	}
	return s.cfg.Backend.Forecast(r.Context(), q)
}

// attachment answers with a file. An error before its first byte is an answer of
// its own; a later one breaks the connection.
type attachment struct {
	w     http.ResponseWriter
	begun bool
}

// Write implements [io.Writer].
func (a *attachment) Write(p []byte) (int, error) {
	if !a.begun {
		a.begun = true
		a.w.Header().Set("Content-Type", "application/octet-stream")
	}
	return a.w.Write(p)
}

func (s *Server) finish(a *attachment, r *http.Request, err error) {
	switch {
	case err == nil:
	case !a.begun:
		s.fail(a.w, r, err)
	default:
		s.cfg.Logger.Error("answer broke off", "path", r.URL.Path, "err", err)
		panic(http.ErrAbortHandler) //nolint:forbidigo // how a handler breaks its connection
	}
}

// haveBytesMax bounds a request file: one frame.
const haveBytesMax = 5 << 20

func (s *Server) exportBundle(w http.ResponseWriter, r *http.Request) {
	a := &attachment{w: w}
	full, err := flag(r.URL.Query().Get("full"))
	if err != nil {
		s.finish(a, r, err)
		return
	}
	have, err := io.ReadAll(http.MaxBytesReader(w, r.Body, haveBytesMax))
	if err != nil {
		s.finish(a, r, fmt.Errorf("%w: body: %w", ErrInvalid, err))
		return
	}
	s.finish(a, r, s.cfg.Backend.ExportBundle(r.Context(), ExportQuery{For: tiers.SiteID(r.URL.Query().Get("for")), Full: full, Have: have}, a))
}

func (s *Server) requestBundle(w http.ResponseWriter, r *http.Request) {
	a := &attachment{w: w}
	s.finish(a, r, s.cfg.Backend.RequestBundle(r.Context(), tiers.SiteID(r.URL.Query().Get("from")), a))
}

func (s *Server) importBundle() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		report, err := s.cfg.Backend.ImportBundle(r.Context(), r.Body)
		if err != nil {
			// The client is still sending; it reads the answer when it is done.
			_, _ = io.Copy(io.Discard, r.Body)
			s.fail(w, r, err)
			return
		}
		answer(w, http.StatusOK, report)
	})
}

// stream passes a request on to the leader while it comes in, and the answer
// back. It is not repeated: what was sent is gone.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, id string) {
	out, err := http.NewRequestWithContext(r.Context(), r.Method, "http://"+id+r.URL.RequestURI(), io.NopCloser(r.Body)) //nolint:gosec // the host is a member, which dialLeader looks up
	if err != nil {
		s.fail(w, r, err)
		return
	}
	out.ContentLength = r.ContentLength
	resp, err := s.toLeader.RoundTrip(out) //nolint:bodyclose // relay closes it
	switch {
	case err == nil:
		relay(w, resp)
	case errors.Is(err, errDial):
		_, _ = io.Copy(io.Discard, r.Body) // as for a refusal here
		s.fail(w, r, fmt.Errorf("%w: leader %s: %w", ErrUnavailable, id, err))
	default:
		s.fail(w, r, fmt.Errorf("%w: leader %s: %w; doing it again is harmless", ErrUnknownOutcome, id, err))
	}
}
