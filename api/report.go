package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/tiermesh/tiermesh/tiers/event"
	"github.com/tiermesh/tiermesh/tiers/strictjson"
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

// ParseReportRequest reads a request, as the API takes it. The error wraps
// [ErrInvalid].
func ParseReportRequest(text string) (ReportRequest, error) { return reportRequest(text) }

// reportRequest reads a request. As [Client] and most others write it, it is read by
// a single pass; all else is left to encoding/json, which takes several times as long
// and reads the same.
func reportRequest(text string) (ReportRequest, error) {
	if r, ok := plainRequest(text); ok {
		return r, nil
	}
	var in sentReport
	return in.read(text, &in)
}

// feedMessage reads a message of a feed, as reportRequest reads a request.
func feedMessage(text string) (FeedMessage, error) {
	var m FeedMessage
	if plainFields(text, &m.ReportRequest, &m.N) {
		return m, nil
	}
	var in struct {
		N uint64 `json:"n"`
		sentReport
	}
	r, err := in.read(text, &in)
	return FeedMessage{N: in.N, ReportRequest: r}, err
}

// sentReport is a request whose report is still as it came.
type sentReport struct {
	Key        string          `json:"key"`
	ID         string          `json:"id,omitempty"`
	Quarantine bool            `json:"quarantine,omitempty"`
	Report     json.RawMessage `json:"report"`
}

// read reads a request into whole, which has in. A report that cannot be read, or only
// altered, is kept as it came where the request says so.
func (in *sentReport) read(text string, whole any) (ReportRequest, error) {
	altered := strictjson.Check([]byte(text))
	if err := decodeChecked([]byte(text), whole); err != nil {
		return ReportRequest{}, err
	}
	r := ReportRequest{Key: in.Key, ID: in.ID, Quarantine: in.Quarantine}
	if altered != nil && (!in.Quarantine || strictjson.Check(in.Report) == nil) {
		return r, fmt.Errorf("%w: body: %w", ErrInvalid, altered)
	}
	var err error
	if len(in.Report) > 0 {
		r.Report, err = event.ParseReport(in.Report)
	}
	if err != nil && in.Quarantine {
		r.Raw, r.Unread, err = in.Report, err, nil
	}
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return r, err
}

// sent is the request as it is sent on.
func (r ReportRequest) sent() any {
	if r.Raw == nil {
		return r
	}
	return sentReport{Key: r.Key, ID: r.ID, Quarantine: r.Quarantine, Report: r.Raw}
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
		case name == "key" && r.Key == "": // one that comes twice is not read here
			r.Key, rest, ok = event.PlainString(rest)
		case name == "id" && r.ID == "":
			r.ID, rest, ok = event.PlainString(rest)
		case name == "report" && r.Report == (event.Report{}):
			r.Report, rest, ok = event.PlainReport(rest)
		case name == "n" && n != nil && *n == 0:
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
