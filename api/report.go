package api

import (
	"context"
	"io"
	"net/http"
	"strings"

	"github.com/tiermesh/tiermesh/tiers/event"
)

func (s *Server) report(r *http.Request) (any, error) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, tooLarge(err)
	}
	req, err := reportRequest(string(b))
	if err != nil {
		return nil, err
	}
	return s.takeIn(r.Context(), req)
}

func (s *Server) takeIn(ctx context.Context, req ReportRequest) (WriteResult, error) {
	if err := checkKey(req.Key); err != nil {
		return WriteResult{}, err
	}
	return s.cfg.Backend.Report(ctx, req)
}

// reportRequest reads a request. As [Client] and most others write it, it is read by
// a single pass; all else is left to encoding/json, which takes several times as long
// and reads the same.
func reportRequest(text string) (ReportRequest, error) {
	if r, ok := plainRequest(text); ok {
		return r, nil
	}
	var r ReportRequest
	err := decode(strings.NewReader(text), &r)
	return r, err
}

// feedMessage reads a message of a feed, as reportRequest reads a request.
func feedMessage(text string) (FeedMessage, error) {
	var m FeedMessage
	if plainFields(text, &m.ReportRequest, &m.N) {
		return m, nil
	}
	m = FeedMessage{}
	err := decode(strings.NewReader(text), &m)
	return m, err
}

// plainRequest reads a request without spaces between its fields and escapes in them,
// and reports whether it could.
func plainRequest(text string) (r ReportRequest, ok bool) {
	ok = plainFields(text, &r, nil)
	return r, ok
}

// plainFields reads the fields of a request; with n it may have a number, too.
func plainFields(text string, r *ReportRequest, n *uint64) bool {
	rest, ok := strings.CutPrefix(text, "{")
	for ok {
		var name string
		if name, rest, ok = event.PlainString(rest); !ok {
			return false
		}
		if rest, ok = strings.CutPrefix(rest, ":"); !ok {
			return false
		}
		switch {
		case name == "key":
			r.Key, rest, ok = event.PlainString(rest)
		case name == "id":
			r.ID, rest, ok = event.PlainString(rest)
		case name == "report" && r.Report == (event.Report{}): // encoding/json adds to one before
			r.Report, rest, ok = event.PlainReport(rest)
		case name == "n" && n != nil:
			end := max(strings.IndexAny(rest, ",}"), 0)
			*n, ok = plainNumber(rest[:end])
			rest = rest[end:]
		default:
			return false
		}
		if !ok || rest == "}" {
			return ok
		}
		rest, ok = strings.CutPrefix(rest, ",")
	}
	return false
}
