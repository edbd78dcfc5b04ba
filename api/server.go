package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/tiermesh/tiermesh/tiers"
	"github.com/tiermesh/tiermesh/tiers/strictjson"
)

const (
	bodyBytesMax    = 1 << 20
	shutdownTimeout = 5 * time.Second
	writeTimeout    = time.Minute
	limitDefault    = 50
	limitMax        = 1000
	keyBytesMax     = 128
)

// Config describes a server.
type Config struct {
	// Listen is "unix:/path" or a loopback host:port; empty for none.
	Listen string
	// Inner accepts what the other nodes of the site ask. Its owner may close it
	// first, which ends that part alone.
	Inner    net.Listener
	Backend  Backend
	Site     Site
	Logger   *slog.Logger
	Gatherer prometheus.Gatherer
	// Token is what a request over a loopback port must bear; see [Token]. Without one
	// such requests are refused.
	Token string
	// Registerer takes the server's own metrics; nil for none.
	Registerer prometheus.Registerer
	Bounds     Bounds
}

// Server serves one node.
type Server struct {
	cfg  Config
	http *http.Server
	lns  []net.Listener
	// toLeader uses a stream for each request: they cost no round trip.
	toLeader *http.Transport
	feeds    feeds
	bounds   *bounds

	ending sync.Once
	ended  chan struct{} // closed when the end has come
	endErr error
}

// Open starts listening. The error wraps [ErrBusy] or [ErrAddress] and names
// the address.
func Open(cfg Config) (*Server, error) {
	s := &Server{cfg: cfg, bounds: newBounds(cfg.Bounds, cfg.Registerer), ended: make(chan struct{})}
	s.lns = []net.Listener{steadyListener{cfg.Inner, s.bounds}}
	if cfg.Listen != "" {
		ln, err := listen(cfg.Listen)
		if err != nil {
			return nil, err
		}
		s.lns = append(s.lns, steadyListener{ln, s.bounds})
	}
	s.toLeader = &http.Transport{DialContext: s.dialLeader, DisableKeepAlives: true}
	s.http = &http.Server{
		Handler: s.door(s.routes()), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second,
		WriteTimeout: writeTimeout, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(cfg.Logger.Handler(), slog.LevelWarn),
		BaseContext: func(ln net.Listener) context.Context {
			if ln == s.lns[0] {
				return context.WithValue(context.Background(), innerKey{}, true)
			}
			if at, ok := ln.Addr().(*net.TCPAddr); ok {
				return context.WithValue(context.Background(), tcpKey{}, net.Addr(at))
			}
			return context.Background()
		},
		ConnContext: func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connKey{}, c) },
	}
	return s, nil
}

// listen opens a Unix socket for this user alone, or a loopback address.
func listen(addr string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		return listenUnix(path)
	}
	host, _, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err != nil || host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("%w on %q: want unix:/path or a loopback host:port", ErrAddress, addr)
	}
	ln, err := net.Listen("tcp", addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("%w: %s: stop the other process or choose another address", ErrBusy, addr)
	}
	if err != nil {
		return nil, fmt.Errorf("%w on %s: %w", ErrAddress, addr, err)
	}
	return ln, nil
}

func listenUnix(path string) (net.Listener, error) {
	if _, err := os.Lstat(path); err == nil {
		if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
			return nil, errors.Join(fmt.Errorf("%w: %s: stop the other process or choose another socket", ErrBusy, path), c.Close())
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%w on %s: %w", ErrAddress, path, err)
		}
	}
	ln, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("%w on %s: %w", ErrAddress, path, err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("%w on %s: %w", ErrAddress, path, err), ln.Close())
	}
	return ln, nil
}

// Addr returns the address that operators reach the server at, nil without one.
func (s *Server) Addr() net.Addr {
	if len(s.lns) < 2 {
		return nil
	}
	return s.lns[1].Addr()
}

// Run serves until ctx ends or Close.
func (s *Server) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	errs := make(chan error, len(s.lns))
	for _, ln := range s.lns {
		go func() { // ends with Close, or by itself
			err := s.http.Serve(ln)
			if ln == s.lns[0] && errors.Is(err, net.ErrClosed) {
				err = http.ErrServerClosed
			}
			errs <- err
		}()
	}
	var failed error
	for range s.lns {
		if err := <-errs; !errors.Is(err, http.ErrServerClosed) {
			failed = errors.Join(failed, fmt.Errorf("serve api: %w", err), s.Close())
		}
	}
	return errors.Join(failed, s.Close()) // waits for requests under way
}

// Close lets requests under way finish, for a few seconds, and stops. It is
// idempotent and never returns early.
func (s *Server) Close() error {
	first := false
	s.ending.Do(func() { first = true })
	if first {
		s.endErr = s.end()
		close(s.ended)
	}
	<-s.ended
	return s.endErr
}

func (s *Server) end() error {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTimeout)
	defer cancel()
	var feeds sync.WaitGroup
	feeds.Go(func() { s.feeds.end(ctx) }) // ends with ctx, or before
	err := s.http.Shutdown(ctx)
	feeds.Wait() // Shutdown knows nothing of them
	if errors.Is(err, context.DeadlineExceeded) {
		// A request that does not end, or a connection that was opened and not used:
		// Shutdown waits for those, too, and neither is a reason to fail.
		s.cfg.Logger.Warn("api connections cut off at the end")
		err = s.http.Close()
	}
	if err != nil {
		return fmt.Errorf("stop api: %w", err)
	}
	for _, ln := range s.lns {
		if err := ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			return fmt.Errorf("stop api: %w", err) // a server that never served
		}
	}
	return nil
}

// collections maps a path's collection to the kind that it lists.
var collections = map[string]string{
	"events": "event", "tasks": "task", "tracks": "track", "boards": "board", "types": "type", "rules": "rule",
	"plans": "plan", "calendars": "calendar",
	"responders": "responder", "unitrequests": "unitrequest", "pools": "pool",
	"indicators": "indicator",
	"adoptions":  "adoption",
	"installs":   "install", "replications": "replication", "capacities": "capacity",
	"orders": "order", "receipts": "receipt", "silences": "silence",
}

func (s *Server) routes() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /v1/status", s.handle(func(r *http.Request) (any, error) { return s.cfg.Backend.Status(r.Context()) }))
	mux.Handle("GET /v1/node", s.handle(func(r *http.Request) (any, error) { return s.cfg.Site.Node(r.Context()) }))
	mux.Handle("GET /v1/members", s.handle(s.members))
	mux.Handle("POST /v1/members", s.handle(s.changeMember))
	mux.Handle("GET /v1/scrub", s.unhurried(s.handle(func(r *http.Request) (any, error) { return s.cfg.Backend.Scrub(r.Context()) })))
	mux.Handle("POST "+repairPath, s.unhurried(s.handle(s.repair)))
	mux.Handle("GET /v1/backup", s.unhurried(http.HandlerFunc(s.backup)))
	s.syncRoutes(mux)
	s.taskRoutes(mux)
	s.responderRoutes(mux)
	s.indicatorRoutes(mux)
	s.trackRoutes(mux)
	s.catalogRoutes(mux)
	s.sharingRoutes(mux)
	s.orderRoutes(mux)
	s.modeRoutes(mux)
	s.eventRoutes(mux)
	s.aggregateRoutes(mux)
	s.reviewRoutes(mux)
	s.alarmRoutes(mux)
	mux.Handle("POST "+reportPath, s.handle(s.report))
	mux.HandleFunc("GET "+feedPath, s.feed)
	mux.Handle("GET /v1/topology", s.handle(func(r *http.Request) (any, error) { return s.cfg.Backend.Topology(r.Context()) }))
	mux.Handle("POST /v1/topology", s.handle(s.publishTopology))
	mux.Handle("GET /v1/ids/{name}", s.handle(s.resolve))
	mux.Handle("GET /v1/{collection}", s.handle(s.list))
	mux.Handle("GET /v1/{collection}/{name}", s.handle(s.view))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /v1/openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(openAPI)
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.cfg.Gatherer, promhttp.HandlerOpts{}))
	return s.place(mux)
}

// handle turns a function into a handler; it and place are the only ones that
// answer.
func (s *Server) handle(f func(*http.Request) (any, error)) http.Handler {
	return s.handleUpTo(bodyBytesMax, f)
}

// handleUpTo is handle for bodies of up to so many bytes.
func (s *Server) handleUpTo(bytesMax int64, f func(*http.Request) (any, error)) http.Handler {
	return s.within(func(w http.ResponseWriter, r *http.Request, held *room) {
		r.Body = http.MaxBytesReader(w, r.Body, bytesMax)
		out, err := f(r)
		if err != nil {
			s.fail(w, r, err)
			return
		}
		status := http.StatusOK
		if held, ok := out.(WriteResult); ok && held.Held != "" {
			status = http.StatusAccepted
		}
		var b bytes.Buffer
		if err := encode(&b, withWaits(w.Header().Get(waitsHeader), out)); err != nil {
			s.fail(w, r, fmt.Errorf("encode an answer: %w", err))
			return
		}
		s.send(w, r, held, status, "application/json", b.Bytes())
	})
}

// fail answers with an error.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	refusal, status := s.refusal(r.URL.Path, err)
	answer(w, status, map[string]any{"error": refusal})
}

// refusal says in an answer what failed, and logs what nobody foresaw.
func (s *Server) refusal(path string, err error) (Refusal, int) {
	code, status := Code(err)
	if status == http.StatusInternalServerError {
		s.cfg.Logger.Error("request failed", "path", path, "err", err)
	}
	return Refusal{code, Words(err)}, status
}

func answer(w http.ResponseWriter, status int, out any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = encode(w, out) // the client went away; nobody is left to tell
}

func encode(w io.Writer, out any) error { return json.NewEncoder(w).Encode(out) }

// repairPath is the one write that is of this node and not of the site.
const repairPath = "/v1/repair"

func (s *Server) repair(r *http.Request) (any, error) {
	var in RepairRequest
	if err := body(r, &in); err != nil {
		return nil, err
	}
	return s.cfg.Backend.Repair(r.Context(), in)
}

// backup streams an archive. When it fails half-way the connection breaks, and
// the archive lacks its manifest.
func (s *Server) backup(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/x-tar")
	if err := s.cfg.Backend.Backup(r.Context(), w); err != nil {
		s.cfg.Logger.Error("backup", "err", err)
		panic(http.ErrAbortHandler) //nolint:forbidigo // how a handler breaks its connection
	}
}

// Refusal says why something was not done; its codes are [Code]'s.
type Refusal struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// body decodes a request's JSON.
func body(r *http.Request, into any) error { return decode(r.Body, into) }

// decode decodes one JSON value; unknown fields are refused by name, and so is what
// encoding/json would alter.
func decode(from io.Reader, into any) error {
	text, err := io.ReadAll(from)
	if err != nil {
		return tooLarge(err)
	}
	if err := strictjson.Check(text); err != nil {
		return fmt.Errorf("%w: body: %w", ErrInvalid, err)
	}
	return decodeChecked(text, into)
}

func decodeChecked(text []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) && kind.Field == "" {
		return fmt.Errorf("%w: body: it is a JSON %s: want an object", ErrInvalid, kind.Value)
	}
	if err != nil {
		return fmt.Errorf("%w: body: %w", ErrInvalid, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%w: body: more than one JSON value", ErrInvalid)
	}
	return nil
}

func checkKey(key string) error {
	if key == "" || len(key) > keyBytesMax {
		return fmt.Errorf("%w: key of %d bytes: want 1 to %d; it makes a retry safe", ErrInvalid, len(key), keyBytesMax)
	}
	return nil
}

func (s *Server) edit(r *http.Request) (any, error) {
	var req EditRequest
	if err := body(r, &req); err != nil {
		return nil, err
	}
	if err := checkKey(req.Key); err != nil {
		return nil, err
	}
	req.Site, req.Code = tiers.SiteID(r.PathValue("site")), r.PathValue("code")
	if err := req.Site.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return s.cfg.Backend.EditTrack(r.Context(), req)
}

func (s *Server) list(r *http.Request) (any, error) {
	kind, ok := collections[r.PathValue("collection")]
	if !ok {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, r.URL.Path)
	}
	q, err := listQuery(r, kind)
	if err != nil {
		return nil, err
	}
	return s.cfg.Backend.List(r.Context(), q)
}

// listQuery reads the parameters of a list.
func listQuery(r *http.Request, kind string) (ListQuery, error) {
	q := ListQuery{Kind: kind, Limit: limitDefault}
	for name, values := range r.URL.Query() {
		switch name {
		case "limit", "site", "after", "read":
			if err := page(&q, name, values[0]); err != nil {
				return q, err
			}
		default:
			return q, fmt.Errorf("%w: unknown parameter %q: want limit, site or after", ErrInvalid, name)
		}
	}
	return q, nil
}

// page reads a parameter that all lists have; place has looked at read.
func page(q *ListQuery, name, v string) (err error) {
	switch name {
	case "limit":
		if q.Limit, err = strconv.Atoi(v); err != nil || q.Limit < 1 || q.Limit > limitMax {
			return fmt.Errorf("%w: limit %.40q: want 1 to %d", ErrInvalid, v, limitMax)
		}
	case "site":
		q.Site = tiers.SiteID(v)
	case "after":
		q.After = v
	}
	return nil
}

func (s *Server) view(r *http.Request) (any, error) {
	kind := collections[r.PathValue("collection")]
	if !slices.Contains(kinds, kind) {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, r.URL.Path)
	}
	items, err := s.cfg.Backend.View(r.Context(), kind, r.PathValue("name"))
	return Page{Items: items}, err
}
