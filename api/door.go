package api

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"mime"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
)

// A Unix socket is its user's alone by its mode. A loopback port is everybody's on the
// machine, and of every page that a browser there shows: requests that come over one
// must name this node as their host (or a page whose name resolves to it, after
// rebinding, reads everything), must not come from a page of another origin (Fetch
// Standard, Sec-Fetch-Site), must have a body of a type that no form sends, and must
// bear the token of a file that only the node's user reads.

// tcpKey marks requests that came over a loopback port; its value is the listener's
// address.
type tcpKey struct{}

// openPaths are served to whoever reaches the port: they tell nothing but that the
// node is there.
var openPaths = []string{"/healthz"}

// bodyTypes are the types that bodies have. None of them can be sent from a page of
// another origin without its browser asking first.
var bodyTypes = []string{"application/json", ndjson, "application/octet-stream", "application/x-tar"}

// tokenBytes is how many random bytes a token has.
const tokenBytes = 32

// tokenPrefix tells people and scanners of secrets what a token is.
const tokenPrefix = "tiermesh_"

// Token returns the token in a file, which it makes where there is none. The error
// wraps [ErrAddress] for a file that others may read, or that holds no token.
func Token(path string) (string, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return newToken(path)
	}
	if err != nil {
		return "", fmt.Errorf("%w: token: %w", ErrAddress, err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return "", fmt.Errorf("%w: others than its owner may read or write the token file %s: chmod 600 it", ErrAddress, path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("%w: token: %w", ErrAddress, err)
	}
	token := strings.TrimSpace(string(b))
	if !strings.HasPrefix(token, tokenPrefix) || len(token) < len(tokenPrefix)+tokenBytes {
		return "", fmt.Errorf("%w: %s holds no token: remove it and start the node again, which makes a new one", ErrAddress, path)
	}
	return token, nil
}

func newToken(path string) (string, error) {
	var b [tokenBytes]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("read randomness: %w", err)
	}
	token := tokenPrefix + base64.RawURLEncoding.EncodeToString(b[:])
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", fmt.Errorf("%w: token: %w", ErrAddress, err)
	}
	_, err = f.WriteString(token + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", errors.Join(fmt.Errorf("%w: token: %w", ErrAddress, err), os.Remove(path))
	}
	return token, nil
}

// door lets in what may come over a loopback port; what comes otherwise is let in as it
// is.
func (s *Server) door(inside http.Handler) http.Handler {
	origins := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		at, ok := r.Context().Value(tcpKey{}).(net.Addr)
		if !ok {
			inside.ServeHTTP(w, r)
			return
		}
		if err := s.mayEnter(r, at, origins); err != nil {
			s.fail(w, r, err)
			return
		}
		inside.ServeHTTP(w, r)
	})
}

// mayEnter refuses a request. The error wraps [ErrForbidden], [ErrUnauthorized] or
// [ErrInvalid].
func (s *Server) mayEnter(r *http.Request, at net.Addr, origins *http.CrossOriginProtection) error {
	if !isHere(r.Host, at) {
		return fmt.Errorf("%w: host %.64q is not this node: want %s, or localhost", ErrForbidden, r.Host, at)
	}
	if err := origins.Check(r); err != nil {
		return fmt.Errorf("%w: a page of another origin asks: %w", ErrForbidden, err)
	}
	// A connection that becomes a WebSocket is a GET, which the check above lets pass.
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" && site != "none" {
		return fmt.Errorf("%w: a page of another origin asks", ErrForbidden)
	}
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); r.ContentLength != 0 && (err != nil || !slices.Contains(bodyTypes, kind)) {
		return fmt.Errorf("%w: Content-Type %.64q: want %s", ErrInvalid, r.Header.Get("Content-Type"), strings.Join(bodyTypes, ", "))
	}
	if slices.Contains(openPaths, r.URL.Path) {
		return nil
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	// Of equal length, so that the comparison takes the same time for all.
	got, want := sha256.Sum256([]byte(strings.TrimSpace(token))), sha256.Sum256([]byte(s.cfg.Token))
	if s.cfg.Token == "" || !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(got[:], want[:]) != 1 {
		return fmt.Errorf("%w: over a port a request bears the node's token: Authorization: Bearer with what is in api.token in the node's directory; tiermesh takes it with --token-file or $TIERMESH_TOKEN_FILE", ErrUnauthorized)
	}
	return nil
}

// isHere reports whether a request's host is a name or address of this machine, with
// the listener's port.
func isHere(host string, at net.Addr) bool {
	name, port, err := net.SplitHostPort(host)
	if err != nil {
		name, port = strings.Trim(host, "[]"), "80"
	}
	own, ownPort, err := net.SplitHostPort(at.String())
	if err != nil || port != ownPort {
		return false
	}
	return strings.EqualFold(name, "localhost") || name == "127.0.0.1" || name == "::1" || name == own
}
