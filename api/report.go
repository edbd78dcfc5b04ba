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

// plainRequest reads a request without spaces between its fields and escapes in them,
// and reports whether it could.
func plainRequest(text string) (r ReportRequest, ok bool) {
	rest, ok := strings.CutPrefix(text, "{")
	for ok {
		var name string
		if name, rest, ok = event.PlainString(rest); !ok {
			return r, false
		}
		if rest, ok = strings.CutPrefix(rest, ":"); !ok {
			return r, false
		}
		switch name {
		case "key":
			r.Key, rest, ok = event.PlainString(rest)
		case "id":
			r.ID, rest, ok = event.PlainString(rest)
		case "report":
			if r.Report != (event.Report{}) {
				return r, false // encoding/json adds to the one before
			}
			r.Report, rest, ok = event.PlainReport(rest)
		default:
			return r, false
		}
		if !ok || rest == "}" {
			return r, ok
		}
		rest, ok = strings.CutPrefix(rest, ",")
	}
	return r, false
}
